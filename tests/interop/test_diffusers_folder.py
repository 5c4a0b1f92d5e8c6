"""What we write as a folder of diffusers works there as it did here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from audioldms import FRAMES, made, theirs

from hiss.autoencoder import VaeConfig
from hiss.config import ModelConfig
from hiss.errors import UsageError
from hiss.interop.audioldm import PARTS, read_audioldm
from hiss.interop.diffusers_folder import write_diffusers
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline, load
from hiss.representations.latent import Latent, LatentConfig
from hiss.signal.mel import MelProfile
from hiss.vocoders import VocoderConfig
from hiss.vocoders.hifigan import HifiGanConfig
from hiss.vocoders.istft import IstftConfig

MEL = MelProfile(n_fft=128, hop=20, bins=16)


def ours(vocoder: VocoderConfig) -> Pipeline:
    """Returns a small latent model with random weights and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = ModelConfig(
            sample_rate=16000,
            seconds=0.04,
            representation=LatentConfig(vae=VaeConfig(mel=MEL, channels=(8, 16), blocks=1, latent=3), vocoder=vocoder),
            network=UNetConfig(channels=(8,), factors=(), attention=(False,), embedding=16),
            conditioners=(),
        )
        model = AudioDiffusionModel(config).eval()
        latent = model.representation
        assert isinstance(latent, Latent)
        latent.vae.mean.fill_(-4.0)
        latent.vae.scale.fill_(2.0)
        latent.mean.copy_(torch.randn(3, 1, 1))
        latent.scale.copy_(torch.rand(3, 1, 1) + 0.5)
    return Pipeline(model)


def hifigan(kernels: tuple[int, ...]) -> HifiGanConfig:
    return HifiGanConfig(
        mel=MEL, channels=16, rates=(5, 4), kernels=kernels, resblock_kernels=(3,), dilations=((1, 3),)
    )


def latent_of(pipeline: Pipeline) -> Latent:
    latent = pipeline.model.representation
    assert isinstance(latent, Latent)
    return latent


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_an_audioldm_that_went_through_our_hands_sounds_the_same(tmp_path: Path) -> None:
    import diffusers

    before = theirs(tmp_path / "before")
    assert set(write_diffusers(read_audioldm(tmp_path / "before"), tmp_path / "after")) == set(PARTS)
    after: Any = diffusers.AudioLDMPipeline.from_pretrained(tmp_path / "after")
    after.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 4, FRAMES, generator=seeded("latents"))
    for found, expected in zip(made(after, noise), made(before, noise), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    again = read_audioldm(tmp_path / "after")
    again.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").model.config == read_audioldm(tmp_path / "before").model.config


def test_our_autoencoder_works_as_that_of_diffusers(tmp_path: Path) -> None:
    import diffusers

    pipeline = ours(IstftConfig(mel=MEL, channels=8, blocks=1))
    assert write_diffusers(pipeline, tmp_path / "folder") == ("vae",)
    latent = latent_of(pipeline)
    vae: Any = diffusers.AutoencoderKL.from_pretrained(tmp_path / "folder" / "vae").eval()
    x = torch.randn(2, *latent.shape(4 * 20 * 8), generator=seeded("x"))
    with torch.no_grad():
        there = vae.decode(x.transpose(2, 3)).sample[:, 0].transpose(1, 2)
        here = latent.vae.decode(x * latent.scale + latent.mean)
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)
        mel = here.detach()
        encoded = vae.encode(mel.transpose(1, 2)[:, None]).latent_dist
        mean, spread = latent.vae.encode(mel)
    assert encoded.mean.shape == (2, 3, *x.shape[:1:-1])
    # Attention carries the edges, which differ, to everywhere; the spread is that of scaled latents all the same.
    correlated = torch.corrcoef(
        torch.stack([((mean - latent.mean) / latent.scale).flatten(), encoded.mean.transpose(2, 3).flatten()])
    )
    assert correlated[0, 1] > 0.8
    assert encoded.logvar.transpose(2, 3).mean() == pytest.approx(
        float((spread - 2 * latent.scale.log()).mean()), abs=0.5
    )


def test_our_hifigan_is_that_of_transformers(tmp_path: Path) -> None:
    import transformers

    pipeline = ours(hifigan((15, 8)))
    assert write_diffusers(pipeline, tmp_path) == ("vae", "vocoder")
    vocoder = transformers.SpeechT5HifiGan.from_pretrained(tmp_path / "vocoder").eval()
    mel = torch.randn(1, 16, 12, generator=seeded("mel"))
    with torch.no_grad():
        torch.testing.assert_close(vocoder(mel.transpose(1, 2)), latent_of(pipeline).vocoder(mel), rtol=1e-4, atol=1e-5)


def test_a_vocoder_that_transformers_does_not_have_is_left_out(tmp_path: Path) -> None:
    assert write_diffusers(ours(hifigan((10, 8))), tmp_path) == ("vae",)


def test_what_diffusers_does_not_know_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only latent models"):
        write_diffusers(load("digits"), tmp_path / "folder")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="holds something already"):
        write_diffusers(ours(IstftConfig(mel=MEL, channels=8, blocks=1)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
