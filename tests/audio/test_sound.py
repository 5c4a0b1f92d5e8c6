"""A recording in memory: shapes, rates, channels, and what it is to other libraries."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sines import RATE, decibels, pitch, sine

from hiss.audio import Audio
from hiss.errors import UsageError


def test_one_dimension_means_mono_and_seconds_follow_from_the_rate() -> None:
    audio = Audio(torch.zeros(8000), 16000)
    assert (audio.channels, audio.seconds, audio.samples.shape) == (1, 0.5, (1, 8000))


@pytest.mark.parametrize("samples", [np.zeros((2, 5)), np.zeros((2, 5), np.float16), torch.zeros(2, 5).double()])
def test_arrays_and_tensors_of_any_precision_become_float32(samples: Any) -> None:
    audio = Audio(samples, 8000)
    assert audio.samples.dtype == torch.float32
    assert audio.samples.shape == (2, 5)


def test_an_audio_does_not_change_with_the_array_it_came_from() -> None:
    array = np.zeros(4, np.float32)
    tensor = torch.zeros(4)
    from_array, from_tensor = Audio(array, 8000), Audio(tensor, 8000)
    array[0] = tensor[0] = 1
    assert from_array.peak == from_tensor.peak == 0


def test_an_audio_does_not_change_with_the_array_made_of_it() -> None:
    audio = sine()
    np.asarray(audio)[:] = 0
    assert audio.peak > 0.4


def test_an_audio_is_frozen_and_compares_by_identity() -> None:
    audio = sine()
    with pytest.raises(AttributeError):
        audio.sample_rate = 1  # type: ignore[misc]
    assert audio == audio  # noqa: PLR0124
    assert audio != sine()
    assert len({audio, sine()}) == 2


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.zeros(1, 2, 3), r"not of shape \(1, 2, 3\)"),
        (torch.tensor(0.0), r"not of shape \(\)"),
        (torch.zeros(0, 10), r"1 to 256 channels, not of shape \(0, 10\)"),
        (torch.zeros(4000, 2), "transpose"),
        (np.zeros(10, np.int16), "int16; divide 16-bit integers by 32768"),
        (torch.zeros(10, dtype=torch.int64), "int64"),
        ([0.0, 0.1], "not list"),
    ],
)
def test_samples_that_are_no_audio_are_refused(samples: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Audio(samples, 8000)


@pytest.mark.parametrize("rate", [0, -1, 44100.0, True, "8000"])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match="sample_rate must be a positive integer in Hz"):
        Audio(torch.zeros(4), rate)


def test_an_array_of_an_audio_is_samples_by_channels_and_soundfile_writes_it(tmp_path: Path) -> None:
    audio = sine(channels=2)
    assert np.asarray(audio).shape == (RATE, 2)
    assert np.asarray(audio, dtype=np.float64).dtype == np.float64
    soundfile.write(tmp_path / "a.wav", audio, audio.sample_rate)
    assert Audio.load(tmp_path / "a.wav").samples.shape == audio.samples.shape


def test_a_notebook_gets_a_player_with_the_sound_inside() -> None:
    html = sine()._repr_html_()
    content = base64.b64decode(html.split("base64,")[1].split('"')[0])
    assert html.startswith("<audio controls")
    assert soundfile.read(io.BytesIO(content))[0].shape == (RATE,)
    assert repr(sine()) == "Audio(1.000 s, 1 channels, 16000 Hz)"


@pytest.mark.parametrize(("old", "new"), [(8000, 44100), (44100, 8000), (16000, 16001)])
def test_resampling_keeps_pitch_level_and_seconds(old: int, new: int) -> None:
    audio = sine(rate=old).resample(new)
    assert audio.samples.shape == (1, new)
    assert pitch(audio) == 440
    assert decibels(audio.rms / sine().rms) == pytest.approx(0, abs=0.05)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    audio = sine(6000).resample(8000)
    assert float(audio.samples[:, 2000:6000].abs().max()) < 1e-5


@pytest.mark.parametrize("samples", [0, 1, 5])
def test_very_short_audio_can_be_resampled(samples: int) -> None:
    assert Audio(torch.zeros(2, samples), 8000).resample(44100).samples.shape == (2, round(samples * 5.5125))


def test_a_rate_that_is_none_cannot_be_resampled_to() -> None:
    with pytest.raises(UsageError, match="not 0"):
        sine().resample(0)


def test_a_part_is_cut_out_to_the_sample() -> None:
    audio = Audio(torch.arange(100.0)[None] / 100, 100)
    assert torch.equal(audio.cut(0.2, 0.5).samples, audio.samples[:, 20:50])
    assert torch.equal(audio.cut(stop=0.3).samples, audio.samples[:, :30])
    assert torch.equal(audio.cut(0.9).samples, audio.samples[:, 90:])
    assert audio.cut(0.5, 0.5).seconds == 0


@pytest.mark.parametrize(("start", "stop"), [(-0.1, 0.5), (0.6, 0.5), (0.0, 1.1), (1.2, None), (math.nan, None)])
def test_a_part_that_is_not_there_is_refused(start: float, stop: float | None) -> None:
    with pytest.raises(UsageError, match=r"is no part of audio of 1\.000 s"):
        Audio(torch.zeros(1, 100), 100).cut(start, stop)


def test_mono_is_the_mean_and_other_channel_changes_are_refused() -> None:
    stereo = Audio(torch.tensor([[1.0, 0.0], [0.0, 0.5]]), 8000)
    assert torch.equal(stereo.mono().samples, torch.tensor([[0.5, 0.25]]))
    assert torch.equal(stereo.mono().to_channels(3).samples, torch.tensor([[0.5, 0.25]] * 3))
    with pytest.raises(UsageError, match="cannot turn 2 channels into 3"):
        stereo.to_channels(3)
