"""A denoising stream: equal to the whole however it is cut, aligned at any rate, of constant size, never late."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import denoisers
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.conditioners.recording import RecordingConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.denoising import DenoisingStream
from hiss.diffusion.sampling import sampler
from hiss.diffusion.schedules import Karras
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel
from hiss.networks.bands import Bands, BandsConfig
from hiss.noise import seeded
from hiss.types import Prompt, State

RATE = 4000
CONFIG = replace(
    denoisers.CONFIG,
    sample_rate=RATE,
    network=BandsConfig(bands=((8, 2), (4, 4)), width=8, channels=16, blocks=2, taps=2, embedding=16),
    parameterization="edm",
    sampling=SamplingConfig(schedule=Karras(sigma_min=0.1, sigma_max=20.0), sampler="ddim", steps=1, window=0.5),
)


def awake(config: ModelConfig) -> AudioDiffusionModel:
    """Returns a model with random weights, none of them zero."""
    model = AudioDiffusionModel(config).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    return model


def with_sampler(name: str) -> AudioDiffusionModel:
    return awake(replace(CONFIG, sampling=replace(CONFIG.sampling, sampler=name)))


def identity(*, causal: bool, rate: int = 16_000, window: float = 0.05) -> AudioDiffusionModel:
    """Returns a model whose masks let the recording pass as it is; in windows, whose level it must know, or causal."""
    network = BandsConfig(bands=((33, 1),), fold=1, width=4, channels=4, blocks=1, taps=2, embedding=4)
    config = replace(
        CONFIG,
        sample_rate=rate,
        network=network,
        parameterization="clean",
        conditioners=(RecordingConfig(memory=20 if causal else None),),
        sampling=replace(CONFIG.sampling, window=window),
    )
    model = AudioDiffusionModel(config).eval()
    assert isinstance(model.denoiser.network, Bands)
    masks = torch.zeros(5, 2)  # x and the recording now, both one frame ago, and a spectrum of its own
    masks[1, 0] = 1
    model.denoiser.network.join.biases[0].data += masks.flatten()
    return model


def sound(samples: int, channels: int = 1, *, rate: int = RATE) -> Tensor:
    """Returns noise over sines below 1.5 kHz that fade in and out."""
    time = torch.arange(samples) / rate
    hertz = torch.tensor([220.0, 700.0, 1500.0])[:, None] * (1 + 0.01 * torch.arange(channels)[:, None, None])
    tones = 0.2 * torch.sin(2 * math.pi * hertz * time).sum(dim=1)
    return tones * torch.hann_window(samples, periodic=False)


def noisy(samples: int, channels: int = 1) -> Tensor:
    return sound(samples, channels) + 0.05 * torch.randn(channels, samples, generator=seeded(samples))


def streamed(stream: DenoisingStream, samples: Tensor, piece: int) -> Tensor:
    parts = [stream.push(one) for one in samples.split(piece, dim=1)]
    return torch.cat([*parts, stream.finish()], dim=1)


@torch.no_grad()
def offline(model: AudioDiffusionModel, samples: Tensor, steps: int) -> Tensor:
    """Returns what one walk over the whole recordings makes of them."""
    condition, level = model.condition([Prompt(recording=one[None]) for one in samples], samples.shape[1])
    assert condition.signal is not None
    *shape, frames = condition.signal.shape[1:]
    noise = torch.stack([torch.randn(shape, generator=seeded(0, frame)) for frame in range(frames)], dim=-1)
    sigmas = model.config.sampling.schedule.grid(steps)
    x = (sigmas[0] * noise).expand_as(condition.signal)
    clean = sampler(model.config.sampling.sampler)(lambda x, sigma: model.denoiser(x, sigma, condition), x, sigmas)
    return model.representation.decode(clean * level)[:, 0, : samples.shape[1]]


@pytest.mark.parametrize("piece", [1, 100, 256, 1000, 16_000])
@pytest.mark.parametrize(("name", "steps"), [("ddim", 1), ("ddim", 2), ("heun", 2), ("dpmpp_2m", 3)])
def test_a_causal_stream_is_the_same_as_the_whole(piece: int, name: str, steps: int) -> None:
    model, recording = with_sampler(name), noisy(1501, 2)
    made = streamed(DenoisingStream(model, RATE, 2, steps=steps), recording, piece)
    whole = offline(model, recording, steps)
    peak = float(whole.abs().max())
    assert peak > 0.05
    torch.testing.assert_close(made / peak, whole / peak, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_stream_looks_ahead_only_if_it_shall(steps: int) -> None:
    assert isinstance(CONFIG.network, BandsConfig)
    model, recording = awake(replace(CONFIG, network=replace(CONFIG.network, ahead=True))), noisy(1501, 2)
    causal = awake(CONFIG)
    causal.load_state_dict(model.state_dict(), strict=False)
    stream = DenoisingStream(model, RATE, 2, steps=steps)
    assert stream.latency == 64 / RATE
    made = streamed(DenoisingStream(causal, RATE, 2, steps=steps), recording, 100)
    torch.testing.assert_close(streamed(stream, recording, 100), made)
    other = streamed(DenoisingStream(model, RATE, 2, steps=steps, ahead=True), recording, 100)
    assert other.shape == made.shape
    assert not torch.allclose(other, made, atol=1e-3)
    assert DenoisingStream(causal, RATE, ahead=True).latency == 64 / RATE, "a causal model has nothing to wait for"


@pytest.mark.parametrize("piece", [1, 100, 256, 16_000])
@pytest.mark.parametrize(("name", "steps"), [("ddim", 1), ("heun", 2)])
def test_a_model_that_looks_ahead_sees_a_short_recording_as_a_whole(piece: int, name: str, steps: int) -> None:
    assert isinstance(CONFIG.network, BandsConfig)
    config = replace(CONFIG, network=replace(CONFIG.network, ahead=True))
    model = awake(replace(config, sampling=replace(config.sampling, sampler=name)))
    recording = noisy(1501, 2)  # 48 frames of the 62 of a window
    whole = offline(model, recording, steps)
    made = streamed(DenoisingStream(model, RATE, 2, steps=steps, ahead=True), recording, piece)
    peak = float(whole.abs().max())
    torch.testing.assert_close(made / peak, whole / peak, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_model_that_looks_ahead_is_never_late_and_sees_what_its_windows_share(steps: int) -> None:
    assert isinstance(CONFIG.network, BandsConfig)
    config = replace(CONFIG, network=replace(CONFIG.network, ahead=True))
    model, recording = awake(config), noisy(8000)
    stream, given = DenoisingStream(model, RATE, steps=steps, ahead=True), 0
    for taken in range(1, 8001):
        given += stream.push(recording[:, taken - 1 : taken]).shape[1]
        assert taken - given <= stream.latency * RATE
    made = streamed(DenoisingStream(model, RATE, steps=steps, ahead=True), recording, 777)
    whole = offline(model, recording, steps)
    assert made.shape == whole.shape
    hop, window = model.representation.hop, 62
    later = window // 4
    final = (window - later - 1) * hop
    # The first window has all before it; at its end it sees only a quarter of a window ahead, which is not the whole.
    torch.testing.assert_close(
        made[:, : final // 2], whole[:, : final // 2], atol=1e-2 * float(whole.abs().max()), rtol=0
    )
    assert not torch.allclose(made, whole, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("piece", [1, 100, 1000])
def test_a_spun_model_gives_the_mean_over_shifted_frames(piece: int, causal: bool) -> None:
    config = replace(
        CONFIG,
        conditioners=(RecordingConfig(memory=20 if causal else None),),
        sampling=replace(CONFIG.sampling, spin=True),
    )
    model = awake(config)
    recording, hop = noisy(1501, 2), model.representation.hop
    stream = DenoisingStream(model, RATE, 2, steps=3)
    made = streamed(stream, recording, piece)
    shifts = [0, hop // 3, 2 * hop // 3]
    later = [functional.pad(recording, (shift, 0)) for shift in shifts]
    parts = [streamed(DenoisingStream(model, RATE, 2, steps=1), one, 1501) for one in later]
    mean = sum(part[:, shift:] for part, shift in zip(parts, shifts, strict=True)) / 3
    assert float((mean - parts[0]).abs().max()) > 1e-3, "shifts make no difference"
    torch.testing.assert_close(made, mean, atol=1e-5, rtol=0)
    stream, given, worst = DenoisingStream(model, RATE, 2, steps=3), 0, 0
    for taken in range(1, 4 * round(stream.latency * RATE)):
        given += stream.push(torch.zeros(2, 1)).shape[1]
        worst = max(worst, taken - given)
    assert stream.latency * RATE == pytest.approx(worst, abs=1.5)


@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m_sde"])
def test_a_sampler_that_draws_noise_streams_too(name: str) -> None:
    model, recording = with_sampler(name), noisy(1501)
    made = [streamed(DenoisingStream(model, RATE, steps=3), recording, piece) for piece in (97, 1501)]
    torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("samples", [0, 1, 160, 9001])
def test_length_and_time_stay_at_any_rate(causal: bool, rate: int, samples: int) -> None:
    recording = sound(samples, 3, rate=rate)
    for piece in (100, 4096):
        made = streamed(DenoisingStream(identity(causal=causal), rate, 3), recording, piece)
        assert made.shape == recording.shape
        if samples > 1000:
            torch.testing.assert_close(made, recording, atol=2e-4, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("samples", [1, 63, 800, 801, 1400, 5000])
@pytest.mark.parametrize("piece", [1, 333, 5000])
def test_a_model_that_changes_nothing_gives_the_recording_back(causal: bool, samples: int, piece: int) -> None:
    recording = 0.1 * torch.randn(2, samples, generator=seeded(samples))
    made = streamed(DenoisingStream(identity(causal=causal), 16_000, 2), recording, piece)
    torch.testing.assert_close(made, recording, atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_nothing_comes_later_than_the_latency(causal: bool, rate: int) -> None:
    stream, given, piece = DenoisingStream(identity(causal=causal), rate), 0, rate // 1000
    for taken in range(piece, rate // 4, piece):
        given += stream.push(torch.zeros(1, piece)).shape[1]
        assert taken / rate - given / rate <= stream.latency + 1.5 / 16_000
    if rate == 16_000:
        assert stream.latency == (64 / 16_000 if causal else 0.05)


@pytest.mark.parametrize("memory", [20, None])
def test_silence_stays_silence(memory: int | None) -> None:
    model = awake(replace(CONFIG, conditioners=(RecordingConfig(memory=memory),)))
    silent = torch.zeros(2, 5000)
    assert not streamed(DenoisingStream(model, RATE, 2), silent, 700).any()


def test_silence_between_sounds_stays_silence_in_a_causal_stream() -> None:
    recording = noisy(6000)
    recording[:, :1000] = 0
    recording[:, 3000:4000] = 0
    made = streamed(DenoisingStream(awake(CONFIG), RATE), recording, 700)
    assert not made[:, :936].any()
    assert not made[:, 3064:3936].any()
    assert bool(made[:, 4000:].any())


def tensors(thing: object, seen: set[int]) -> Iterator[Tensor]:
    """Yields what a stream holds on to, its model apart."""
    if isinstance(thing, nn.Module) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict | list | tuple):
        for one in thing.values() if isinstance(thing, dict) else thing:
            yield from tensors(one, seen)
    elif hasattr(thing, "__dict__"):
        yield from tensors(vars(thing), seen)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_stream_does_not_grow(causal: bool, rate: int) -> None:
    stream, held = DenoisingStream(identity(causal=causal), rate, 2, steps=2), []
    for _ in range(80):
        stream.push(0.1 * torch.randn(2, 441, generator=seeded(0)))
        held.append(sum(one.untyped_storage().nbytes() for one in tensors(stream, set())))
    assert 0 < max(held[40:]) <= 1.1 * max(held[15:40])


@pytest.mark.parametrize(("memory", "ahead"), [(20, False), (20, True), (None, False)])
def test_channels_may_be_recordings_of_their_own(memory: int | None, ahead: bool) -> None:
    assert isinstance(CONFIG.network, BandsConfig)
    network, conditioners = replace(CONFIG.network, ahead=ahead), (RecordingConfig(memory=memory),)
    model, recordings = awake(replace(CONFIG, network=network, conditioners=conditioners)), noisy(3000, 6)
    together = streamed(DenoisingStream(model, RATE, 6, ahead=ahead), recordings, 1000)
    for recording, made in zip(recordings, together, strict=True):
        alone = streamed(DenoisingStream(model, RATE, ahead=ahead), recording[None], 1000)
        torch.testing.assert_close(alone[0], made, atol=1e-5, rtol=0)


@pytest.mark.parametrize("piece", [333, 1000, 9000])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("rate", "steps"), [(RATE, 1), (RATE, 2), (11_025, 1)])
def test_channels_may_end_before_others(rate: int, steps: int, ahead: bool, piece: int) -> None:
    assert isinstance(CONFIG.network, BandsConfig)
    sampling = replace(CONFIG.sampling, spin=True)
    model = awake(replace(CONFIG, network=replace(CONFIG.network, ahead=True), sampling=sampling))
    samples = (1, 1000, 2777, 4000, 5001, 9000)
    together = 0.1 * torch.randn(len(samples), max(samples), generator=seeded(rate))
    for recording, length in zip(together, samples, strict=True):
        recording[length:] = 0
    stream, parts, begun = DenoisingStream(model, rate, len(samples), steps=steps, ahead=ahead), [], 0
    for some in together.split(piece, dim=1):
        lengths = [min(max(0, length - begun), some.shape[1]) for length in samples]
        parts.append(stream.push(some, lengths=lengths))
        begun += some.shape[1]
    made = torch.cat([*parts, stream.finish()], dim=1)
    for recording, clean, length in zip(together, made, samples, strict=True):
        alone = streamed(DenoisingStream(model, rate, steps=steps, ahead=ahead), recording[None, :length], piece)
        torch.testing.assert_close(clean[:length], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("ahead", [False, True])
def test_silence_after_the_end_of_all_is_no_work(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(CONFIG.network, BandsConfig)
    model, worked = awake(replace(CONFIG, network=replace(CONFIG.network, ahead=True))), []
    piece = model.denoiser.piece

    def counted(x: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, State]:
        worked.append(x.shape[-1])
        return piece(x, *arguments, **options)

    monkeypatch.setattr(model.denoiser, "piece", counted)
    stream = DenoisingStream(model, RATE, 2, ahead=ahead)
    made = torch.cat([stream.push(functional.pad(noisy(1000, 2), (0, 8000)), lengths=[900, 1000]), stream.finish()], 1)
    assert made.shape == (2, 9000)
    own = math.ceil(1000 / 32) + 1
    assert own <= sum(worked) <= (own + int(0.5 * 0.5 * RATE / 32) if ahead else own)  # windows share a half
    assert not made[:, 1000:].any()


@pytest.mark.parametrize("rate", [4000, 11_025])
def test_what_is_kept_of_the_noise_is_aligned(rate: int) -> None:
    model, recording = awake(CONFIG), 0.1 * torch.randn(2, 5001, generator=seeded(rate))
    clean, kept, all_of_it = (
        streamed(DenoisingStream(model, rate, 2, keep_db=limit), recording, 999) for limit in (None, 6.0, 0.0)
    )
    torch.testing.assert_close(kept, clean + 10 ** (-6 / 20) * (recording - clean))
    torch.testing.assert_close(all_of_it, recording)


def test_a_guided_model_goes_the_way_of_windows() -> None:
    guided = replace(CONFIG, sampling=replace(CONFIG.sampling, guidance=2.0))
    assert DenoisingStream(awake(CONFIG), RATE).latency == 64 / RATE
    assert DenoisingStream(awake(guided), RATE).latency == 0.5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"steps": 0}, "step"),
        ({"keep_db": -1.0}, "keep_db"),
        ({"keep_db": math.nan}, "keep_db"),
        ({"channels": 0}, "channels"),
        ({"sample_rate": 0}, "sample rate"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, float], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        DenoisingStream(awake(CONFIG), **({"sample_rate": RATE} | arguments))  # type: ignore[arg-type]


def test_pieces_that_do_not_fit_are_refused() -> None:
    stream = DenoisingStream(awake(CONFIG), RATE, 2)
    with pytest.raises(UsageError, match="pieces"):
        stream.push(torch.zeros(1, 10))
    with pytest.raises(UsageError, match=r"floating-point samples in \[-1, 1\], not torch\.int16; scale them first"):
        stream.push(torch.zeros(2, 10, dtype=torch.int16))
    for lengths in ([10], [10, 11], [-1, 10]):
        with pytest.raises(UsageError, match=r"has 0 to 10 samples, not \["):
            stream.push(torch.zeros(2, 10), lengths=lengths)
    for beyond in (math.nan, 1e300):
        with pytest.raises(HissError, match="NaN"):
            stream.push(torch.full((2, 10), beyond, dtype=torch.float64))
    assert stream.finish().shape == (2, 0)
    with pytest.raises(UsageError, match="finished"):
        stream.push(torch.zeros(2, 10))


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("rate", [RATE, 8000])
def test_pieces_may_need_gradients_and_lie_on_any_device(rate: int, device: str) -> None:
    model, recording = awake(CONFIG), noisy(1501)
    wanted = streamed(DenoisingStream(model, rate, keep_db=6.0), recording, 500)
    elsewhere = recording.to(device, torch.float64).requires_grad_()
    made = streamed(DenoisingStream(model, rate, keep_db=6.0), elsewhere, 500)
    assert (made.dtype, made.device.type, made.requires_grad) == (torch.float32, "cpu", False)
    torch.testing.assert_close(made, wanted)


def test_windows_without_overlap_are_cleaned_each_on_its_own() -> None:
    config = replace(CONFIG, sampling=replace(CONFIG.sampling, overlap=0.0), conditioners=(RecordingConfig(),))
    model, recording = awake(config), noisy(2 * CONFIG.window)
    whole = streamed(DenoisingStream(model, RATE), recording, 999)
    parts = [streamed(DenoisingStream(model, RATE), part, 999) for part in recording.split(CONFIG.window, dim=1)]
    torch.testing.assert_close(whole, torch.cat(parts, dim=1), atol=1e-6, rtol=1e-5)


def test_what_a_stream_gives_back_can_be_changed_and_trained_with() -> None:
    stream = DenoisingStream(awake(CONFIG), sample_rate=RATE)
    made = torch.cat([stream.push(piece) for piece in torch.full((1, RATE), 0.1).split(64, dim=1)], dim=1)
    made *= 2
    leaf = torch.ones(1, requires_grad=True)
    (leaf * made.square()).sum().backward()
    assert leaf.grad is not None
