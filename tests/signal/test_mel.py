"""Mel filters and log-mel spectra: areas, equality with librosa, levels, errors."""

import math

import numpy as np
import pytest
import torch

from hiss.errors import UsageError
from hiss.signal.mel import MelProfile, log_mel, mel_filters


def test_each_filter_has_unit_area_over_frequency() -> None:
    filters = mel_filters(16000, 4096, 40)
    torch.testing.assert_close(filters.sum(dim=1) * 16000 / 4096, torch.ones(40), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("rate", "n_fft", "bins", "low", "high"),
    [(16000, 1024, 64, 0, 8000), (48000, 2048, 128, 0, 20000), (8000, 256, 40, 60, None), (22050, 1024, 12, 300, 900)],
)
def test_filters_equal_those_of_librosa(rate: int, n_fft: int, bins: int, low: float, high: float | None) -> None:
    from librosa.filters import mel

    theirs = mel(sr=rate, n_fft=n_fft, n_mels=bins, fmin=low, fmax=high)
    np.testing.assert_allclose(mel_filters(rate, n_fft, bins, low, high).numpy(), theirs, atol=1e-8, rtol=1e-5)


def test_filters_cover_only_the_frequencies_asked_for() -> None:
    hz = torch.linspace(0, 4000, 513)
    outside = (hz < 300) | (hz > 3000)
    assert not mel_filters(8000, 1024, 20, 300.0, 3000.0)[:, outside].any()


def test_the_same_filters_are_made_once() -> None:
    assert mel_filters(8000, 256, 20) is mel_filters(8000, 256, 20)


def test_log_mel_equals_the_mel_spectrogram_of_librosa() -> None:
    import librosa

    audio = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    theirs = librosa.feature.melspectrogram(
        y=audio.numpy(), sr=8000, n_fft=512, hop_length=100, n_mels=30, power=1.0, pad_mode="constant"
    )
    ours = log_mel(audio, sample_rate=8000, n_fft=512, hop=100, bins=30)
    np.testing.assert_allclose(ours.numpy(), np.log(np.maximum(theirs, 1e-5)), atol=1e-4)


def test_ten_times_the_amplitude_adds_the_logarithm_of_ten() -> None:
    audio = torch.randn(2, 1, 2000, generator=torch.Generator().manual_seed(1))
    quiet, loud = (log_mel(level * audio, sample_rate=8000, n_fft=256, hop=64, bins=20) for level in (1.0, 10.0))
    assert quiet.shape == (2, 1, 20, 33)
    torch.testing.assert_close(loud, quiet + math.log(10.0))


def test_silence_is_at_the_floor() -> None:
    mel = log_mel(torch.zeros(800), sample_rate=8000, n_fft=256, hop=64, bins=20, floor=1e-3)
    torch.testing.assert_close(mel, torch.full_like(mel, math.log(1e-3)))


@pytest.mark.parametrize(("low", "high"), [(-1.0, None), (0.0, 5000.0), (3000.0, 2000.0)])
def test_filters_beyond_half_of_the_sample_rate_are_refused(low: float, high: float | None) -> None:
    with pytest.raises(UsageError, match="do not fit into 0 to"):
        mel_filters(8000, 256, 20, low, high)


def test_filters_between_the_bins_are_refused() -> None:
    with pytest.raises(UsageError, match="200 mel bins are too many for n_fft=256"):
        mel_filters(8000, 256, 200)


@pytest.mark.parametrize(
    "profile",
    [
        MelProfile(),
        MelProfile(sample_rate=48000, n_fft=2048, hop=480, bins=128, high=20000.0),
        MelProfile(sample_rate=44100, n_fft=2048, hop=441, bins=80, low=40.0, high=16000.0),
    ],
)
@pytest.mark.parametrize("samples", [1, 1600, 4000])
def test_a_profile_has_one_frame_a_hop_centred_on_it(profile: MelProfile, samples: int) -> None:
    import librosa

    audio = torch.randn(2, samples, generator=torch.Generator().manual_seed(2))
    frames = profile.frames(samples)
    assert frames == math.ceil(samples / profile.hop)
    ahead = profile.n_fft // 2 - profile.hop // 2
    padded = torch.nn.functional.pad(audio, (ahead, frames * profile.hop - samples + profile.n_fft))
    theirs = librosa.feature.melspectrogram(
        y=padded.numpy(),
        sr=profile.sample_rate,
        n_fft=profile.n_fft,
        hop_length=profile.hop,
        n_mels=profile.bins,
        fmin=profile.low,
        fmax=profile.high,
        power=1.0,
        center=False,
    )[..., :frames]
    np.testing.assert_allclose(profile(audio).numpy(), np.log(np.maximum(theirs, 1e-5)), atol=1e-4)


@pytest.mark.parametrize("change", [{"n_fft": 1023}, {"hop": 513}, {"bins": 0}, {"high": 8001.0}, {"floor": 0.0}])
def test_an_impossible_profile_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"mel (spectrum needs|bands lie)"):
        MelProfile.from_dict(change)
