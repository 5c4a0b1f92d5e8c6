"""Audio files: every format keeps its sound, and everything that can go wrong is said."""

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sines import RATE, decibels, pitch, sine, streamed_flac

from hiss.audio import FORMATS, RATES, Audio, replacing
from hiss.errors import HissError, UsageError


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 24000, 48000])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_keeps_rate_channels_length_and_pitch(
    format: str, rate: int, channels: int, tmp_path: Path
) -> None:
    audio = sine(rate=rate, channels=channels)
    audio.save(tmp_path / f"a.{format}")
    back = Audio.load(tmp_path / f"a.{format}")
    assert (back.sample_rate, back.channels, back.samples.shape) == (rate, channels, audio.samples.shape)
    assert pitch(back) == pytest.approx(440, abs=2)
    assert decibels(back.rms / audio.rms) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(("subtype", "error"), [(None, 2**-15), ("PCM_24", 2**-23), ("FLOAT", 0.0)])
def test_a_wav_file_is_as_exact_as_its_sample_format(subtype: str | None, error: float, tmp_path: Path) -> None:
    audio = Audio(torch.rand(2, 999, generator=torch.Generator().manual_seed(0)) - 0.5, 44100)
    audio.save(tmp_path / "a.wav", subtype=subtype)
    assert float((Audio.load(tmp_path / "a.wav").samples - audio.samples).abs().max()) <= error


@pytest.mark.parametrize("format", FORMATS)
def test_a_single_sample_survives_a_file(format: str, tmp_path: Path) -> None:
    Audio(torch.tensor([0.25]), 48000).save(tmp_path / "a", format=format)
    assert Audio.load(tmp_path / "a").samples.shape == (1, 1)


def test_the_content_says_what_a_file_is_not_its_name(tmp_path: Path) -> None:
    sine().save(tmp_path / "a.wav", format="mp3")
    assert soundfile.info(tmp_path / "a.wav").format == "MP3"
    assert Audio.load(tmp_path / "a.wav").sample_rate == RATE


def test_loading_converts_rate_and_channels(tmp_path: Path) -> None:
    sine(rate=44100, channels=2).save(tmp_path / "a.flac")
    audio = Audio.load(tmp_path / "a.flac", sample_rate=8000, channels=1)
    assert (audio.sample_rate, audio.samples.shape) == (8000, (1, 8000))
    assert pitch(audio) == 440


@pytest.mark.parametrize("start", [0.0, 0.25, 3.3])
@pytest.mark.parametrize("format", FORMATS)
def test_a_part_of_a_file_is_that_part_of_the_whole(format: str, start: float, tmp_path: Path) -> None:
    sine(seconds=5).save(tmp_path / f"a.{format}")
    whole = Audio.load(tmp_path / f"a.{format}")
    part = Audio.load(tmp_path / f"a.{format}", start=start, seconds=0.5)
    first = round(start * RATE)
    torch.testing.assert_close(part.samples, whole.samples[:, first : first + 8000], atol=2e-4, rtol=0)


def test_a_flac_file_that_was_streamed_and_does_not_say_its_length_is_read_like_any_other(tmp_path: Path) -> None:
    sine(seconds=5).save(tmp_path / "a.flac")
    (tmp_path / "b.flac").write_bytes(streamed_flac(sine(seconds=5)))
    for start, seconds in ((0.0, None), (3.3, None), (3.3, 0.5), (4.9, 9.0)):
        asked, streamed = (Audio.load(tmp_path / name, start=start, seconds=seconds) for name in ("a.flac", "b.flac"))
        assert torch.equal(streamed.samples, asked.samples)
    with pytest.raises(HissError, match=r"lasts 5\.000 s: nothing at 6"):
        Audio.load(tmp_path / "b.flac", start=6)


def test_open_files_load_like_paths() -> None:
    assert Audio.load(io.BytesIO(sine().encode("flac"))).seconds == 1


def test_long_vorbis_files_are_written_in_pieces(tmp_path: Path) -> None:
    Audio(torch.zeros(2, 5_000_000), 44100).save(tmp_path / "a.ogg")
    assert soundfile.info(tmp_path / "a.ogg").frames == 5_000_000


def test_peaks_beyond_full_scale_are_scaled_down_with_a_warning(tmp_path: Path) -> None:
    loud = sine(amplitude=2.0)
    with pytest.warns(UserWarning, match=r"the peak 2 is beyond full scale: saved 6.0 dB softer"):
        loud.save(tmp_path / "a.wav")
    torch.testing.assert_close(Audio.load(tmp_path / "a.wav").samples, loud.samples / loud.peak, atol=2**-14, rtol=0)
    loud.save(tmp_path / "b.wav", subtype="FLOAT")
    assert torch.equal(Audio.load(tmp_path / "b.wav").samples, loud.samples)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_are_neither_saved_nor_loaded(bad: float, tmp_path: Path) -> None:
    with pytest.raises(HissError, match="NaN or infinite"):
        Audio(torch.tensor([0.0, bad]), 8000).save(tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())
    soundfile.write(tmp_path / "b.wav", np.array([0.0, bad]), 8000, subtype="FLOAT")
    with pytest.raises(HissError, match=r"b\.wav holds NaN or infinite"):
        Audio.load(tmp_path / "b.wav")


@pytest.mark.parametrize("format", ["mp3", "opus"])
def test_rates_a_format_does_not_know_are_refused_or_changed_if_asked(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{format}"
    with pytest.raises(UsageError, match=f"{format} cannot hold 96000 Hz; valid are .*48000"):
        sine(rate=96000).save(path)
    assert not path.exists()
    sine(rate=96000).save(path, resample=True)
    assert Audio.load(path).sample_rate == 48000
    assert all(sine(rate=rate).encode(format) for rate in RATES[format])


def test_rates_that_crash_the_vorbis_encoder_are_refused() -> None:
    with pytest.raises(UsageError, match="ogg cannot hold 384000 Hz; valid are 1 to 200000"):
        sine(rate=384000).encode("ogg")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"format": "wave"}, "unknown audio format 'wave' .did you mean 'wav'"),
        ({"format": ""}, "valid are: flac, mp3, ogg, opus, wav"),
        ({"format": "flac", "subtype": "FLOAT"}, "unknown sample format of flac 'FLOAT'"),
    ],
)
def test_unknown_formats_are_refused_with_the_valid_ones(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sine().encode(**arguments)


@pytest.mark.parametrize(("format", "channels"), [("mp3", 3), ("flac", 9)])
def test_too_many_channels_for_a_format_are_refused(format: str, channels: int) -> None:
    with pytest.raises(UsageError, match=f"{format} holds at most"):
        sine(channels=channels).encode(format)


def test_nothing_is_not_saved() -> None:
    with pytest.raises(HissError, match="zero length"):
        Audio(torch.zeros(0), 8000).encode()


def write_text(path: Path) -> None:
    path.write_text("this is no sound\n" * 100)


def write_nothing(path: Path) -> None:
    path.touch()


def write_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 8000, format="WAV")


def write_half(path: Path) -> None:
    noise = torch.rand(RATE, generator=torch.Generator().manual_seed(0)) - 0.5
    content = Audio(noise, RATE).encode("flac")
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.raw"])
@pytest.mark.parametrize("write", [write_text, write_nothing, write_no_samples, write_half])
def test_files_that_are_no_audio_say_so_in_one_sentence(
    write: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(HissError) as caught:
        Audio.load(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(HissError, match=r"cannot read .*none\.wav: No such file or directory"):
        Audio.load(tmp_path / "none.wav")
    with pytest.raises(HissError, match="Is a directory"):
        Audio.load(tmp_path)


def test_a_start_behind_the_end_says_how_long_the_file_is(tmp_path: Path) -> None:
    sine().save(tmp_path / "a.wav")
    with pytest.raises(HissError, match=r"lasts 1\.000 s: nothing at 2"):
        Audio.load(tmp_path / "a.wav", start=2)


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.wav", tmp_path / "none" / "a.wav"):
        with pytest.raises(HissError, match=r"cannot write .*a\.wav"):
            sine().save(path)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(HissError, match="cannot write"):
        sine().save(tmp_path / "folder.wav")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.wav"}


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sine().save(tmp_path / "a.wav")
    before = (tmp_path / "a.wav").read_bytes()

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HissError, match="No space left on device"):
        sine(880).save(tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_replacing_leaves_nothing_when_the_writer_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert not list(tmp_path.iterdir())
