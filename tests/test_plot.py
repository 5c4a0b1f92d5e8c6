"""A picture of sounds: any sound can be drawn, scales can be compared, and a file is whole or not there."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.plot import mel_image, picture
from hiss.signal.mdct import mdct_power


def tone(hertz: float, *, seconds: float = 0.5, rate: int = 8000, level: float = 0.5) -> Audio:
    time = torch.arange(round(seconds * rate)) / rate
    return Audio(level * torch.sin(2 * math.pi * hertz * time), rate)


def size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_each_row_makes_the_picture_higher(tmp_path: Path) -> None:
    picture([("one", tone(440))], tmp_path / "one.png")
    picture([("one", tone(440)), ("two", tone(880))], tmp_path / "two.png")
    (width, one), (same, two) = size(tmp_path / "one.png"), size(tmp_path / "two.png")
    assert width == same
    assert two > one + 100


@pytest.mark.parametrize(
    "audio",
    [
        Audio(torch.zeros(4000), 8000),
        Audio(torch.ones(1), 8000),
        Audio(torch.zeros(1, 0), 8000),
        Audio(torch.ones(1000), 8000),
        Audio(torch.rand(7, 100), 44100),
        tone(1, rate=3, seconds=100),
        tone(20, rate=100),
        tone(9000, rate=384000, seconds=0.2),
        tone(440, seconds=60),
    ],
    ids=["silence", "one sample", "nothing", "constant", "short", "3 Hz", "100 Hz", "384 kHz", "a minute"],
)
def test_any_sound_can_be_drawn(audio: Audio, tmp_path: Path) -> None:
    picture([("sound", audio)], tmp_path / "sound.png")
    assert size(tmp_path / "sound.png")[0] == 1200


@pytest.mark.parametrize(
    "audio",
    [
        tone(440, seconds=60),
        Audio(torch.zeros(2, 100), 44100),
        Audio(torch.ones(1), 8000),
        Audio(torch.zeros(1, 0), 8000),
    ],
    ids=["a minute", "silence", "one sample", "nothing"],
)
def test_a_spectrum_of_any_kind_is_drawn_in_place_of_the_waveform(audio: Audio, tmp_path: Path) -> None:
    picture([("real", audio), ("generated", audio)], tmp_path / "mdct.png", spectrum=mdct_power)
    picture([("real", audio), ("generated", audio)], tmp_path / "wave.png")
    assert size(tmp_path / "mdct.png") == size(tmp_path / "wave.png")
    assert (tmp_path / "mdct.png").read_bytes() != (tmp_path / "wave.png").read_bytes()


def test_the_mdct_of_a_tone_is_largest_in_its_bin() -> None:
    power = mdct_power(tone(1000))
    assert power.shape[0] == 256
    assert int(power.sum(axis=1).argmax()) in (63, 64)


def test_titles_may_hold_formulas_line_breaks_and_any_script(tmp_path: Path) -> None:
    picture([("$\\frac{1$ \n 世界 " + "long " * 50, tone(440))], tmp_path / "title.png")


def test_a_tone_is_brightest_at_its_place_and_low_tones_are_at_the_bottom() -> None:
    low, high = (mel_image(tone(hertz)).astype(int).sum(axis=(1, 2)).argmax() for hertz in (300, 3000))
    assert low > high


def test_silence_is_black_whatever_the_level_of_rounding_noise() -> None:
    assert mel_image(Audio(1e-7 * torch.randn(4000), 8000)).max() <= 4


def test_colours_span_80_db() -> None:
    image = mel_image(tone(1000))
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert image.max() > 250
    assert image.min() == 0


@pytest.mark.parametrize("count", [0, 101])
def test_a_picture_needs_a_sensible_number_of_rows(count: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"1 to 100 sounds, not {count}"):
        picture([("tone", tone(440))] * count, tmp_path / "no.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "no.png").mkdir()
    with pytest.raises(HissError, match="cannot write"):
        picture([("tone", tone(440))], tmp_path / "no.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["no.png"]
