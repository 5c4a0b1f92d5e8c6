"""The autoencoder: shapes, statistics, learning, and equality with that of diffusers."""

from dataclasses import replace

import pytest
import torch

from hiss.autoencoder import Vae, VaeConfig
from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.signal.mel import MelProfile

MEL = MelProfile(sample_rate=8000, n_fft=128, hop=40, bins=16, high=4000.0)
CONFIG = VaeConfig(mel=MEL, channels=(8, 16, 16), blocks=1, latent=4, groups=4)


def build(config: VaeConfig = CONFIG) -> Vae:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return config.build()


def mels(frames: int = 32) -> torch.Tensor:
    """Returns [3, 16, frames] of something that looks like a spectrum."""
    time, bins = torch.arange(frames) / 8, torch.arange(16)[:, None]
    phases = torch.arange(3)[:, None, None]
    return -5 + 2 * torch.sin(time + phases) - 0.2 * bins + 0.1 * torch.randn(3, 16, frames, generator=seeded("mels"))


def test_a_latent_is_four_times_smaller_each_way() -> None:
    vae = build()
    mean, spread = vae.encode(mels())
    assert mean.shape == spread.shape == (3, 4, 4, 8)
    assert vae.decode(mean).shape == (3, 16, 32)


@pytest.mark.parametrize("frames", [1, 3, 30])
def test_any_number_of_frames_is_made_anew(frames: int) -> None:
    assert build()(mels(frames)).shape == (3, 16, frames)


def test_the_default_has_3_to_8_million_parameters_and_that_of_audioldm_about_55() -> None:
    with torch.device("meta"):
        small, full = VaeConfig().build(), VaeConfig(channels=(128, 256, 512), groups=32).build()
    assert 3e6 < sum(p.numel() for p in small.parameters()) < 8e6
    assert sum(p.numel() for p in full.parameters()) == pytest.approx(55.4e6, rel=0.01)


def test_a_config_survives_the_round_trip() -> None:
    assert VaeConfig.from_dict(CONFIG.to_dict()) == CONFIG


def test_statistics_are_those_of_all_spectra_and_undone_at_the_end() -> None:
    vae = build()
    vae.fit(iter(mels().split(2)))
    assert float(vae.mean) == pytest.approx(float(mels().mean()), abs=1e-5)
    assert float(vae.scale) == pytest.approx(float(mels().std(correction=0)), abs=1e-5)
    plain = build()
    torch.testing.assert_close(vae.encode(mels())[0], plain.encode((mels() - vae.mean) / vae.scale)[0])
    latent = vae.encode(mels())[0]
    torch.testing.assert_close(vae.decode(latent), plain.decode(latent) * vae.scale + vae.mean)


def test_it_learns_and_every_weight_gets_a_gradient() -> None:
    vae = build()
    vae.fit([mels()])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        mean, spread = vae.encode(mels())
        loss = (vae.decode(mean) - mels()).abs().mean() + 1e-3 * (mean.square() + spread.exp() - spread).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in vae.parameters())


def test_it_equals_the_autoencoder_of_diffusers() -> None:
    from diffusers import AutoencoderKL

    levels = 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=(32, 64, 64),
            layers_per_block=2,
            latent_channels=8,
            norm_num_groups=32,
        )
    ours = build(VaeConfig(mel=MEL, channels=(32, 64, 64), blocks=2, latent=8, groups=32))
    weights = {name: w.transpose(-1, -2) if w.ndim == 4 else w for name, w in theirs.state_dict().items()}
    left_out = ours.load_state_dict(weights, strict=False)
    assert set(left_out.missing_keys) == {"trained", "mean", "scale"}
    assert not left_out.unexpected_keys
    with torch.no_grad():
        mean, spread = ours.encode(mels())
        expected = theirs.encode(mels()[:, None].transpose(-1, -2)).latent_dist
        torch.testing.assert_close(mean, expected.mean.transpose(-1, -2), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(spread, expected.logvar.transpose(-1, -2), atol=1e-5, rtol=1e-4)
        decoded = theirs.decode(mean.transpose(-1, -2)).sample[:, 0].transpose(-1, -2)
        torch.testing.assert_close(ours.decode(mean), decoded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channels": (8, 10)}, "multiples of its 4 groups"),
        ({"mel": replace(MEL, bins=18)}, "multiple of 4 bins, not 18"),
        ({"blocks": 0}, "positive channels, blocks"),
        ({"channels": ()}, "positive channels, blocks"),
    ],
)
def test_an_impossible_autoencoder_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(CONFIG, **change)  # type: ignore[arg-type]
