"""Every registered representation is a map of about unit variance, invertible unless a vocoder takes part in it."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.autoencoder import Vae, VaeConfig
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.representations import Representation, RepresentationConfig, latent
from hiss.representations.latent import Latent, LatentConfig
from hiss.representations.mdct import MdctConfig
from hiss.representations.mel import MelConfig
from hiss.representations.ring import Ring
from hiss.representations.stft import StftConfig
from hiss.representations.waveform import WaveformConfig
from hiss.signal.mdct import mdct
from hiss.signal.mel import MelProfile
from hiss.vocoders import Vocoder
from hiss.vocoders.hifigan import HifiGanConfig
from hiss.vocoders.istft import IstftConfig

MEL = MelProfile(sample_rate=8000, n_fft=128, hop=40, bins=12, high=4000.0)
VAE = VaeConfig(mel=MEL, channels=(8, 8, 16), blocks=1, latent=4, groups=4)
EXACT: dict[str, list[RepresentationConfig]] = {
    "waveform": [WaveformConfig(), WaveformConfig(pre_emphasis=0.95)],
    "stft": [StftConfig(), StftConfig(window=62, hop=20, exponent=0.3), StftConfig(window=64, hop=16, exponent=1.0)],
    "mdct": [
        MdctConfig(),
        MdctConfig(bins=64, window="kbd", exponent=0.3, mid_side=True),
        MdctConfig(bins=64, window="vorbis", companding="asinh"),
        MdctConfig(bins=1024, companding="none"),
    ],
}
LOSSY: dict[str, list[RepresentationConfig]] = {
    "mel": [
        MelConfig(vocoder=IstftConfig(mel=MEL, channels=8, blocks=1)),
        MelConfig(vocoder=HifiGanConfig(mel=MEL, channels=8, rates=(8, 5), kernels=(16, 11))),
    ],
    "latent": [LatentConfig(vae=VAE, vocoder=IstftConfig(mel=MEL, channels=8, blocks=1))],
}
INVERTIBLE = [config for configs in EXACT.values() for config in configs]
VOCODED = [config for configs in LOSSY.values() for config in configs]
CONFIGS = [*INVERTIBLE, *VOCODED]


def ready(config: RepresentationConfig, channels: int = 1) -> Representation:
    """Returns a representation of audio at 8000 Hz whose parts take themselves for trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = config.build(8000, channels)
    for part in built.modules():
        if isinstance(part, Vae | Vocoder):
            part.trained.fill_(True)
    return built


def test_every_registered_representation_is_tested_here() -> None:
    assert set(RepresentationConfig.members) == set(EXACT) | set(LOSSY)


@pytest.mark.parametrize("config", VOCODED)
@pytest.mark.parametrize("samples", [1, 100, 4001])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_vocoder_gives_back_all_samples_of_every_channel(
    config: RepresentationConfig, samples: int, channels: int
) -> None:
    representation = ready(config, channels)
    encoded = representation.encode(torch.randn(2, channels, samples) / 4)
    assert encoded.shape == (2, *representation.shape(samples))
    assert encoded.shape[1] == representation.channels
    assert encoded.ndim == 2 + representation.dims
    decoded = representation.decode(encoded)
    assert decoded.shape[:2] == (2, channels)
    assert samples <= decoded.shape[2] < samples + 4 * MEL.hop
    assert bool(decoded.isfinite().all())


@pytest.mark.parametrize("config", VOCODED)
def test_channels_do_not_hear_each_other(config: RepresentationConfig) -> None:
    audio = torch.randn(2, 2, 400) / 4
    both, one = ready(config, 2), ready(config)
    one.load_state_dict(both.state_dict())
    alone = torch.cat([one.encode(audio[:, channel, None]) for channel in range(2)], dim=1)
    torch.testing.assert_close(both.encode(audio), alone)
    made = torch.cat([one.decode(part) for part in alone.chunk(2, dim=1)], dim=1)
    torch.testing.assert_close(both.decode(alone), made)


@pytest.mark.parametrize("config", VOCODED)
def test_what_was_trained_before_does_not_learn_any_more_and_travels_with_the_model(
    config: RepresentationConfig,
) -> None:
    representation = ready(config)
    assert not list(filter(lambda p: p.requires_grad, representation.parameters()))
    assert {"vocoder.trained", "vocoder.mean"} <= set(representation.state_dict())
    decoded = representation.decode(torch.zeros(1, *representation.shape(400)).requires_grad_())
    assert decoded.requires_grad


@pytest.mark.parametrize("config", VOCODED)
def test_an_untrained_part_is_refused(config: RepresentationConfig) -> None:
    with pytest.raises(HissError, match=r"the (vae|vocoder) of the representation is untrained.*from: FOLDER"):
        config.build(8000, 1).fit([torch.randn(1, 1, 400)])
    half = ready(config)
    assert isinstance(half.vocoder, Vocoder)
    half.vocoder.trained.fill_(False)
    with pytest.raises(HissError, match="the vocoder of the representation is untrained"):
        half.fit([torch.randn(1, 1, 400)])


@pytest.mark.parametrize("config", VOCODED)
def test_a_part_for_another_sample_rate_is_refused(config: RepresentationConfig) -> None:
    with pytest.raises(UsageError, match="works at 8000 Hz, and the model has 16000 Hz; set the sample_rate"):
        config.build(16_000, 1)


def test_an_autoencoder_and_a_vocoder_that_know_different_spectra_are_refused() -> None:
    other = IstftConfig(mel=replace(MEL, n_fft=256))
    with pytest.raises(UsageError, match="different mel spectra: n_fft is 128 for one and 256 for the other"):
        LatentConfig(vae=VAE, vocoder=other)


def test_every_bin_of_a_mel_spectrum_has_zero_mean_and_all_have_one_scale() -> None:
    representation = ready(LOSSY["mel"][0])
    audio = music()[:, :1]
    representation.fit(iter(audio.split(4)))
    encoded = representation.encode(audio)
    torch.testing.assert_close(encoded.mean(dim=(0, 1, 3)), torch.zeros(12), atol=1e-4, rtol=0)
    change = MEL(audio).diff(dim=-1) / encoded.diff(dim=-1)
    torch.testing.assert_close(change, change.mean().expand_as(change), atol=0, rtol=0.05)


def test_long_latents_are_decoded_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    representation = ready(LOSSY["latent"][0])
    assert isinstance(representation, Latent)
    encoded = torch.randn(2, *representation.shape(20_000), generator=seeded("long"))
    whole, decode, sizes = representation.decode(encoded), representation.vae.decode, []

    def noted(latents: Tensor) -> Tensor:
        sizes.append(latents.shape[-1])
        return decode(latents)

    monkeypatch.setattr(representation.vae, "decode", noted)
    assert torch.equal(representation.decode(encoded), whole)
    monkeypatch.setattr(latent, "_WINDOW", 24)
    monkeypatch.setattr(latent, "_SHARED", 8)
    windows = representation.decode(encoded)
    assert sizes[0] == encoded.shape[-1] > 48
    assert len(sizes) > 3
    assert max(sizes[1:]) == 24
    assert windows.shape == whole.shape
    # Norms and attention of the autoencoder hear another part, so the windows are near the whole, not equal to it.
    assert float((windows - whole).norm() / whole.norm()) < 0.3


def test_every_channel_of_a_latent_has_zero_mean_and_unit_variance() -> None:
    representation = ready(LOSSY["latent"][0])
    audio = music()[:, :1]
    representation.fit(iter(audio.split(4)))
    encoded = representation.encode(audio)
    torch.testing.assert_close(encoded.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoded.square().mean(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("config", INVERTIBLE)
@pytest.mark.parametrize("samples", [1, 2, 100, 16_001])
@pytest.mark.parametrize("channels", [1, 2])
def test_decoding_undoes_encoding_at_any_length(config: RepresentationConfig, samples: int, channels: int) -> None:
    representation = config.build(16_000, channels)
    audio = torch.randn(2, channels, samples) / 4
    encoded = representation.encode(audio)
    assert encoded.shape == (2, *representation.shape(samples))
    assert encoded.shape[1] == representation.channels
    assert encoded.ndim == 2 + representation.dims
    torch.testing.assert_close(representation.decode(encoded)[..., :samples], audio, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_fitting_brings_the_whole_training_set_to_unit_variance(config: RepresentationConfig) -> None:
    representation = ready(config)
    batches = [0.1 * torch.randn(4, 1, 2000), 0.3 * torch.randn(2, 1, 2000)]
    representation.fit(batches)
    encoded = torch.cat([representation.encode(batch).flatten() for batch in batches])
    assert float(encoded.square().mean().sqrt()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("config", CONFIGS)
def test_fitting_to_silence_is_refused(config: RepresentationConfig) -> None:
    with pytest.raises(HissError, match="silent"):
        ready(config).fit([torch.zeros(1, 1, 800)])


@pytest.mark.parametrize("config", CONFIGS)
def test_the_scale_travels_with_the_weights(config: RepresentationConfig) -> None:
    fitted, fresh = ready(config), config.build(8000, 1)
    fitted.fit([torch.randn(2, 1, 500) / 9])
    fresh.load_state_dict(fitted.state_dict())
    audio = torch.randn(1, 1, 300)
    assert torch.equal(fitted.encode(audio), fresh.encode(audio))


def test_pre_emphasis_is_the_first_difference_of_the_textbook() -> None:
    representation = WaveformConfig(pre_emphasis=0.9).build(8000, 1)
    audio = torch.randn(1, 1, 64)
    expected = audio - 0.9 * audio.roll(1, dims=-1)
    torch.testing.assert_close(representation.encode(audio), expected, atol=1e-6, rtol=1e-5)


def test_pre_emphasis_raises_the_top_against_the_bottom_as_its_response_says() -> None:
    representation = WaveformConfig(pre_emphasis=0.9).build(8000, 1)
    time = torch.arange(8000) / 8000
    tones = [torch.sin(2 * math.pi * hz * time)[None, None] for hz in (100, 3900)]
    gains = [float(representation.encode(tone).square().mean().mul(2).sqrt()) for tone in tones]
    expected = [abs(1 - 0.9 * math.e ** (-2j * math.pi * hz / 8000)) for hz in (100, 3900)]
    assert gains == pytest.approx(expected, rel=1e-4)


def test_a_compressed_spectrum_raises_magnitudes_and_keeps_phases() -> None:
    audio = torch.randn(2, 2, 1000)
    plain = StftConfig(exponent=1.0).build(16_000, 2).encode(audio).unflatten(1, (2, 2))
    pressed = StftConfig(exponent=0.4).build(16_000, 2).encode(audio).unflatten(1, (2, 2))
    magnitudes = plain.square().sum(dim=2).sqrt(), pressed.square().sum(dim=2).sqrt()
    torch.testing.assert_close(magnitudes[1], magnitudes[0] ** 0.4, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pressed * magnitudes[0][:, :, None], plain * magnitudes[1][:, :, None])


def test_a_gain_is_a_gain_in_a_compressed_spectrum_too() -> None:
    representation = StftConfig(exponent=0.5).build(16_000, 1)
    audio = torch.randn(1, 1, 2000)
    torch.testing.assert_close(representation.encode(16 * audio), 4 * representation.encode(audio))


@pytest.mark.parametrize("config", EXACT["stft"])
@pytest.mark.parametrize("piece", [1, 50, 1000])
def test_a_spectrum_in_pieces_is_that_of_the_whole_and_delayed_as_stated(
    config: RepresentationConfig, piece: int
) -> None:
    representation = config.build(16_000, 2)
    coding, audio = representation.coding(), 0.1 * torch.randn(3, 2, 2001)
    assert coding is not None
    frames, parts, taken, given = [], [], 0, 0
    for some in audio.split(piece, dim=-1):
        frames.append(coding.encode(some))
        parts.append(coding.decode(frames[-1]))
        taken, given = taken + some.shape[-1], given + parts[-1].shape[-1]
        assert given >= taken - coding.latency
    frames.append(coding.encode(audio[..., :0], last=True))
    parts.append(coding.decode(frames[-1], last=True))
    torch.testing.assert_close(torch.cat(frames, dim=-1), representation.encode(audio), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(parts, dim=-1)[..., :2001], audio, atol=1e-6, rtol=1e-4)


def test_the_slopes_of_a_compressed_spectrum_are_finite_in_silence() -> None:
    representation = StftConfig(exponent=0.3).build(16_000, 1)
    audio = torch.zeros(1, 1, 600, requires_grad=True)
    representation.decode(representation.encode(audio)).sum().backward()
    assert audio.grad is not None
    assert bool(audio.grad.isfinite().all())


def music(count: int = 6) -> Tensor:
    """Returns stereo noise, softer the higher it is and from clip to clip, whose sides are softer than its middle."""
    noise = torch.randn(count, 2, 4000, generator=seeded("music"))
    noise = torch.fft.irfft(torch.fft.rfft(noise) / torch.linspace(1, 50, 2001), n=4000)
    middle, side = noise.unbind(1)
    return torch.stack([middle + 0.1 * side, middle - 0.1 * side], dim=1) * torch.logspace(-2, 0, count)[:, None, None]


@pytest.mark.parametrize("config", EXACT["mdct"])
def test_every_bin_of_either_channel_comes_to_unit_variance(config: RepresentationConfig) -> None:
    representation = config.build(8000, 2)
    representation.fit(iter(music().split(4)))  # read only once
    variance = representation.encode(music()).square().mean(dim=(0, 3))
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-4, rtol=0)


def test_coefficients_are_scaled_by_their_bin_before_they_are_companded() -> None:
    spectrum = mdct(music(), bins=64)
    rms = spectrum.square().mean(dim=(0, 3))[..., None].sqrt()
    compandings: dict[str, Callable[[Tensor], Tensor]] = {
        "power": lambda c: c.sign() * c.abs() ** 0.4,
        "asinh": lambda c: 0.2 * torch.asinh(c / 0.2),
        "none": lambda c: c,
    }
    for name, companded in compandings.items():
        config = MdctConfig.from_dict({"name": "mdct", "bins": 64, "companding": name, "exponent": 0.4, "knee": 0.2})
        representation = config.build(8000, 2)
        representation.fit([music()])
        wanted = companded(spectrum / rms)
        wanted = wanted / wanted.square().mean(dim=(0, 3))[..., None].sqrt()
        # Next to zero a power is a line, so that its slope is finite.
        torch.testing.assert_close(representation.encode(music()), wanted, atol=0.03, rtol=1e-3)


def test_mid_and_side_are_sum_and_difference_and_keep_the_energy() -> None:
    config = MdctConfig(companding="none", mid_side=True)
    audio = music()
    middle, side = config.build(8000, 2).encode(audio).unbind(1)
    torch.testing.assert_close(middle, mdct(audio.sum(dim=1) / 2**0.5, bins=256), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close((middle**2 + side**2).sum(), audio.square().sum())
    assert not config.build(8000, 2).encode(audio[:, :1].expand(-1, 2, -1))[:, 1].any()
    mono = audio[:, :1]
    assert torch.equal(config.build(8000, 1).encode(mono), MdctConfig(companding="none").build(8000, 1).encode(mono))


@pytest.mark.parametrize("config", EXACT["mdct"])
def test_silent_bins_stay_small_and_can_be_decoded(config: MdctConfig) -> None:
    tone = torch.sin(2 * math.pi * 440 / 8000 * torch.arange(8000)) * torch.hann_window(8000)
    low = tone.expand(2, 2, -1)  # nothing above, and no sides
    representation = config.build(8000, 2)
    representation.fit([low])
    encoded = representation.encode(low)
    assert float(encoded.square().mean(dim=(0, 3)).amax()) < 1.1
    assert float(encoded[:, :, -8:].square().mean()) < 0.6
    noise = torch.randn(encoded.shape, generator=seeded("silent"))
    noise[:, :, : config.bins // 2] = 0
    assert float(representation.decode(noise).square().mean().sqrt()) < 0.01 * float(low.square().mean().sqrt())


def test_of_a_large_training_set_the_spread_is_measured_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiss.representations.mdct._FRAMES", 500)
    representation = MdctConfig(bins=64).build(8000, 2)
    audio = music(40)
    representation.fit(audio.split(3))
    variance = representation.encode(audio).square().mean(dim=(0, 3))
    assert float((variance.sqrt() - 1).abs().amax()) < 0.15
    assert float(variance.mean()) == pytest.approx(1, abs=0.05)
    again = MdctConfig(bins=64).build(8000, 2)
    again.fit(audio.split(3))
    assert torch.equal(again.state_dict()["spread"], representation.state_dict()["spread"])


def test_a_bin_that_sounds_only_in_frames_that_were_not_kept_is_still_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiss.representations.mdct._FRAMES", 1)
    audio = torch.zeros(1, 1, 64_000)
    audio[..., 32_000] = 1.0
    representation = MdctConfig(bins=64).build(8000, 1)
    representation.fit([audio])
    encoded = representation.encode(audio)
    assert bool(encoded.isfinite().all())
    torch.testing.assert_close(representation.decode(encoded), audio, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", EXACT["mdct"])
def test_the_slopes_of_a_companded_spectrum_are_finite_in_silence(config: RepresentationConfig) -> None:
    representation = config.build(8000, 1)
    audio = torch.zeros(1, 1, 600, requires_grad=True)
    representation.decode(representation.encode(audio)).sum().backward()
    assert audio.grad is not None
    assert bool(audio.grad.isfinite().all())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"bins": 255}, "even number of bins"),
        ({"window": "hann"}, "valid are: kbd, sine, vorbis"),
        ({"exponent": 0.0}, "exponent"),
        ({"knee": 0.0}, "knee"),
        ({"alpha": -1.0}, "alpha"),
    ],
)
def test_an_impossible_mdct_is_refused(options: dict[str, float], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        MdctConfig(**options)  # type: ignore[arg-type]


def test_mid_and_side_of_three_channels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"of 2 channels, not of 3; set mid_side to false"):
        MdctConfig(mid_side=True).build(8000, 3)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"window": 511}, "even"), ({"hop": 300}, "half"), ({"exponent": 0.0}, "exponent"), ({"exponent": 1.5}, "at 1")],
)
def test_an_impossible_spectrum_is_refused(options: dict[str, float], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        StftConfig(**options)  # type: ignore[arg-type]


def test_an_impossible_pre_emphasis_is_refused() -> None:
    with pytest.raises(UsageError, match="below 1"):
        WaveformConfig(pre_emphasis=1.0)


def period(samples: int, channels: int = 1) -> Tensor:
    """Returns a sum of tones [2, channels, samples] that fit a whole number of times, all far below half the rate."""
    generator = seeded("period", samples)
    turns = torch.randint(1, max(2, samples // 8), (2, channels, 5, 1), generator=generator)
    phase = 6.28 * torch.rand(2, channels, 5, 1, generator=generator)
    return 0.1 * torch.sin(2 * math.pi * turns * torch.arange(samples) / samples + phase).sum(dim=2)


@pytest.mark.parametrize("config", [MdctConfig(), MdctConfig(companding="asinh", mid_side=True)])
@pytest.mark.parametrize("samples", [1, 100, 16_000, 1_000_003])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_an_mdct_is_as_exact_as_its_numbers(
    config: RepresentationConfig, samples: int, dtype: torch.dtype, most: float
) -> None:
    representation = config.build(22_050, 2).to(dtype)
    audio = 2 * torch.rand(1, 2, samples, dtype=dtype, generator=seeded("exact")) - 1
    made = representation.decode(representation.encode(audio))[..., :samples]
    assert float((made - audio).abs().max()) < most


@pytest.mark.parametrize("config", INVERTIBLE)
@pytest.mark.parametrize("samples", [1000, 3072, 5001])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_period_encoded_as_a_ring_decodes_to_the_same_period(
    config: RepresentationConfig, samples: int, channels: int
) -> None:
    representation = config.build(16_000, channels)
    ring, audio = Ring(representation, samples), period(samples, channels)
    encoded = ring.encode(audio)
    assert encoded.shape == (2, *ring.shape(samples))
    assert ring.frames == max(1, round(samples / representation.hop))
    torch.testing.assert_close(ring.decode(encoded), audio, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("config", INVERTIBLE)
def test_a_ring_has_no_beginning(config: RepresentationConfig) -> None:
    representation = config.build(16_000, 1)
    audio = period(8 * representation.hop if representation.hop > 1 else 1000)
    ring = Ring(representation, audio.shape[-1])
    turned = ring.encode(audio.roll(3 * representation.hop, dims=-1))
    torch.testing.assert_close(turned, ring.encode(audio).roll(3, dims=-1), atol=1e-4, rtol=1e-4)
    x = torch.randn(turned.shape, generator=seeded("ring"))
    later = ring.decode(x.roll(3, dims=-1))
    torch.testing.assert_close(later, ring.decode(x).roll(3 * representation.hop, dims=-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", VOCODED)
@pytest.mark.parametrize("samples", [1000, 5001])
def test_a_vocoder_goes_round_a_ring_and_gives_back_all_samples(config: RepresentationConfig, samples: int) -> None:
    ring = Ring(ready(config), samples)
    encoded = ring.encode(period(samples))
    assert encoded.shape[1:] == ring.shape(samples)
    assert ring.decode(encoded).shape == (2, 1, samples)
    assert ring.kept(torch.ones(samples)).shape == encoded.shape[-1:]


@pytest.mark.parametrize("config", [one for one in INVERTIBLE if one != WaveformConfig(pre_emphasis=0.95)])
@pytest.mark.parametrize("circle", [False, True])
def test_what_is_kept_of_a_frame_does_not_depend_on_what_is_not_kept_of_the_samples(
    config: RepresentationConfig, circle: bool
) -> None:
    representation = config.build(16_000, 1)
    samples = 16 * representation.hop + (0 if circle else 5)
    coder = Ring(representation, samples) if circle else representation
    audio, keep = torch.randn(1, 1, samples, generator=seeded("kept")), torch.ones(samples)
    span = slice(5 * representation.hop + 1, 7 * representation.hop - 1 if representation.hop > 2 else 7)
    keep[span], other = 0, audio.clone()
    other[..., span] = 0
    kept = coder.kept(keep)
    assert kept.shape == coder.shape(samples)[-1:]
    changed = (coder.encode(audio) - coder.encode(other)).abs().flatten(0, -2).amax(dim=0) > 1e-6
    assert not bool((changed & (kept > 0)).any())
    # An open sample opens the frames that are made from it, and no others.
    assert int((kept < 1).sum()) <= int(changed.sum()) + 1


@pytest.mark.parametrize("config", VOCODED)
@pytest.mark.parametrize("samples", [1000, 3072, 5001])
def test_of_a_vocoder_every_frame_that_touches_an_open_sample_is_open(
    config: RepresentationConfig, samples: int
) -> None:
    representation = ready(config)
    keep = torch.ones(samples)
    keep[samples // 2] = 0
    kept = representation.kept(keep)
    assert kept.shape == representation.shape(samples)[-1:]
    own, margin = samples // 2 // representation.hop, representation.margin
    opened = torch.ones(len(kept))
    opened[max(0, own - margin) : own + margin + 1] = 0
    assert torch.equal(kept, opened)


def test_a_half_kept_sample_keeps_half_of_its_frames() -> None:
    keep = torch.ones(64 * 8)
    keep[200] = 0.5
    kept = MdctConfig(bins=64).build(8000, 1).kept(keep)
    assert kept.tolist() == [1, 1, 1, 0.5, 0.5, 1, 1, 1, 1]
