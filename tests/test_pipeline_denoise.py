"""Denoising: any recording comes back as long and as loud as it was, whatever the model makes of its noise."""

import math
from dataclasses import replace
from typing import Any

import denoisers
import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.conditioners.recording import RecordingConfig
from hiss.diffusion.schedules import LogNormal
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations.waveform import WaveformConfig
from hiss.signal.losses import CompressedSpectrum, MultiResolution, Phase, SiSdr, Waveform, si_sdr
from hiss.types import Batch, Prompt

CONFIG = replace(
    denoisers.CONFIG,
    sample_rate=4000,
    losses=(
        CompressedSpectrum(n_fft=64, hop=32),
        MultiResolution(windows=(32, 64), weight=0.1),
        SiSdr(weight=0.01),
        Phase(n_fft=64, hop=16, weight=0.01),
        Waveform(trusted=True),
    ),
)
UNET = UNetConfig(channels=(8, 16), patch=8, factors=(2,), attention=(False, True), embedding=16)


def mixtures(count: int, *keys: int) -> Batch:
    """Returns bursts of a tone, and as recordings the same in noise of 5 dB less energy."""
    time = torch.arange(2000) / 4000
    generator = seeded("mixtures", *keys)
    hertz = 200 + 600 * torch.rand(count, 1, 1, generator=generator)
    clean = 0.3 * torch.sin(2 * math.pi * hertz * time) * (torch.sin(2 * math.pi * 3 * time) > 0)
    noisy = clean + 0.08 * torch.randn(clean.shape, generator=generator)
    return Batch(clean, 4000, tuple(Prompt(recording=one) for one in noisy), torch.full((count,), 2000))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Returns a denoiser that was trained for a moment."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AudioDiffusionModel(CONFIG)
    model.representation.fit([mixtures(8).audio])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(80):
        optimizer.zero_grad()
        model.compute_loss(mixtures(8, step), generator=seeded(step)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return Pipeline(model)


def noisy(seconds: float = 0.5, rate: int = 4000, channels: int = 1) -> Audio:
    return Audio(0.1 * torch.randn(channels, round(seconds * rate), generator=seeded("noisy", rate)), rate)


def gain(pipeline: Pipeline, steps: int) -> float:
    """Returns by how many dB the mean ratio of signal to distortion grows."""
    batch = mixtures(8, 1000)
    recordings = torch.stack([prompt.recording for prompt in batch.prompts if prompt.recording is not None])
    made = torch.stack([pipeline.denoise(Audio(one, 4000), steps=steps).samples for one in recordings])
    return float((si_sdr(made, batch.audio) - si_sdr(recordings, batch.audio)).mean())


@pytest.mark.parametrize("asked", [{}, {"count": 2}, {"prompt": "7"}, {"init": noisy()}, {"prompt": noisy()}])
def test_a_model_that_denoises_generates_nothing_of_nothing(pipeline: Pipeline, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="denoises and cannot generate; take denoise"):
        pipeline.generate(**asked)
    given = noisy().samples
    assert pipeline.generate(Prompt(recording=given), seed=0).samples.shape == given.shape


def test_one_step_takes_noise_away_and_more_steps_do_too(pipeline: Pipeline) -> None:
    one, three = gain(pipeline, 1), gain(pipeline, 3)
    assert one > 3
    assert three > one - 1


@pytest.mark.parametrize("loss", range(len(CONFIG.losses)))
def test_the_gradient_of_every_auxiliary_loss_reaches_every_weight(loss: int) -> None:
    # The main loss is switched off: at levels this high its weight 1 / sigma^2 is nothing.
    config = replace(
        CONFIG,
        losses=CONFIG.losses[loss : loss + 1],
        weighting="uniform_noise",
        training=LogNormal(mean=16.0, std=0.1, sigma_min=1e6, sigma_max=1e8),
    )
    model = AudioDiffusionModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    model.compute_loss(mixtures(2), generator=seeded(0)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    trusted = config.losses[0].trusted  # such a term counts for nothing at these levels, and shall
    assert (max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6) == trusted
    assert trusted or silent == []


def test_auxiliary_losses_add_to_the_error() -> None:
    model = AudioDiffusionModel(CONFIG)
    alone = AudioDiffusionModel(replace(CONFIG, losses=()))
    alone.load_state_dict(model.state_dict())
    whole = model.compute_loss(mixtures(4), generator=seeded(0))
    assert not torch.isclose(whole, alone.compute_loss(mixtures(4), generator=seeded(0)))


@pytest.mark.parametrize("memory", [None, 20])
@pytest.mark.parametrize("decibels", [-60.0, 20.0])
def test_how_loud_a_recording_is_changes_neither_loss_nor_result(memory: int | None, decibels: float) -> None:
    config = replace(CONFIG, conditioners=(RecordingConfig(memory=memory),), losses=())
    model = AudioDiffusionModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    batch, factor = mixtures(2), 10 ** (decibels / 20)
    louder = replace(
        batch,
        audio=batch.audio * factor,
        prompts=tuple(Prompt(recording=factor * one.recording) for one in batch.prompts if one.recording is not None),
    )
    first, second = (float(model.compute_loss(one, generator=seeded(0)).detach()) for one in (batch, louder))
    assert second == pytest.approx(first, rel=1e-3)
    sounds = [model.sample(one.prompts, 2000, generator=seeded(0)) for one in (batch, louder)]
    torch.testing.assert_close(sounds[1] / factor, sounds[0], atol=1e-4, rtol=1e-3)


def test_what_comes_more_than_a_window_later_changes_nothing(pipeline: Pipeline) -> None:
    first, second = noisy(0.5).samples, noisy(0.5).samples.clone()
    second[:, 1000:] = 0.5
    sounds = [
        pipeline.model.sample([Prompt(recording=one)], 2000, generator=seeded(0))[0, 0] for one in (first, second)
    ]
    torch.testing.assert_close(sounds[0][:936], sounds[1][:936])
    assert not torch.isclose(sounds[0][1000:], sounds[1][1000:]).all()


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"),
    [(0.5, 4000, 1), (0.01, 8000, 2), (2.9, 4000, 1), (1.3, 11025, 1), (0.4, 3000, 3), (1 / 4000, 4000, 1)],
)
def test_length_rate_and_channels_stay(pipeline: Pipeline, seconds: float, rate: int, channels: int) -> None:
    source = noisy(seconds, rate, channels)
    clean = pipeline.denoise(source)
    assert clean.samples.shape == source.samples.shape
    assert clean.sample_rate == rate
    assert bool(clean.samples.isfinite().all())


def test_silence_stays_silence(pipeline: Pipeline) -> None:
    assert not pipeline.denoise(Audio(torch.zeros(2, 9000), 4000)).samples.any()
    half = torch.cat([torch.zeros(1, 4000), noisy(1.0).samples], dim=1)
    assert not pipeline.denoise(Audio(half, 4000)).samples[:, :3900].any()


def test_nothing_stays_nothing(pipeline: Pipeline) -> None:
    assert pipeline.denoise(Audio(torch.zeros(1, 0), 4000)).samples.shape == (1, 0)


def test_each_channel_is_cleaned_alone_and_twice_is_the_same(pipeline: Pipeline) -> None:
    source = noisy(0.7, 4000, 2)
    both = pipeline.denoise(source).samples
    assert torch.equal(both, pipeline.denoise(source).samples)
    for channel in (0, 1):
        alone = pipeline.denoise(Audio(source.samples[channel], 4000)).samples
        torch.testing.assert_close(both[channel], alone[0], atol=1e-6, rtol=0)


def test_long_recordings_are_cleaned_in_blocks_without_a_seam(pipeline: Pipeline) -> None:
    source = noisy(17.0)
    stream = pipeline.stream(4000)
    pieces = [stream.push(piece) for piece in source.samples.split(777, dim=1)]
    clean = pipeline.denoise(source).samples
    torch.testing.assert_close(torch.cat([*pieces, stream.finish()], dim=1), clean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [0.0, 6.0, 400.0])
def test_a_share_of_the_noise_can_be_kept(pipeline: Pipeline, limit: float) -> None:
    source = noisy()
    clean, kept = pipeline.denoise(source).samples, pipeline.denoise(source, keep_db=limit).samples
    torch.testing.assert_close(kept, clean + 10 ** (-limit / 20) * (source.samples - clean))


def test_watch_counts_the_blocks_and_hears_what_came_of_them(pipeline: Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    heard: list[Tensor] = []

    def watch(done: int, of: int, samples: Tensor) -> None:
        seen.append((done, of))
        heard.append(samples)

    clean = pipeline.denoise(noisy(17.0), watch=watch)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(torch.cat(heard, dim=1), clean.samples)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"steps": 0}, "1 step"), ({"keep_db": -1.0}, "keep_db"), ({"keep_db": math.nan}, "keep_db")],
)
def test_what_cannot_be_meant_is_refused(pipeline: Pipeline, arguments: dict[str, float], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        pipeline.denoise(noisy(), **arguments)  # type: ignore[arg-type]


def test_a_recording_with_nan_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(HissError, match="NaN"):
        pipeline.denoise(Audio(torch.full((1, 100), math.nan), 4000))


def test_a_model_that_only_generates_says_so() -> None:
    config = replace(CONFIG, conditioners=(), representation=WaveformConfig(), losses=(), network=UNET)
    generator = Pipeline(AudioDiffusionModel(config))
    assert not generator.denoises
    with pytest.raises(UsageError, match="cannot denoise"):
        generator.denoise(noisy())
