"""Blocks: read and written piece by piece, a recording is what it is when read and written at once."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sines import RATE, sine, streamed_flac

from hiss.audio import FORMATS, Audio, BlockWriter, Form, files, read_blocks
from hiss.errors import HissError, UsageError


def write(audio: Audio, path: Path, *, subtype: str | None = None, size: int = 1000) -> None:
    with BlockWriter(path, sample_rate=audio.sample_rate, channels=audio.channels, subtype=subtype) as writer:
        for block in audio.samples.split(size, dim=1):
            writer.append(block)
        writer.save()


@pytest.mark.parametrize("format", FORMATS)
def test_blocks_are_the_file(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{format}"
    sine(channels=2).save(path)
    blocks = list(read_blocks(path, samples=3000))
    assert {block.shape[1] for block in blocks[:-1]} == {3000}
    torch.testing.assert_close(torch.cat(blocks, dim=1), Audio.load(path).samples, atol=1e-6, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("amplitude", [0.5, 2.0])
def test_a_file_written_in_blocks_is_that_written_at_once(format: str, amplitude: float, tmp_path: Path) -> None:
    audio = sine(channels=2, amplitude=amplitude)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audio.save(tmp_path / f"whole.{format}")
        write(audio, tmp_path / f"blocks.{format}")
    whole, blocks = (Audio.load(tmp_path / f"{name}.{format}").samples for name in ("whole", "blocks"))
    torch.testing.assert_close(blocks, whole, atol=1e-6, rtol=0)


def test_peaks_beyond_full_scale_are_scaled_down_with_a_warning_that_names_the_file(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"the peak 2 of .*a\.wav is beyond full scale: saved 6.0 dB softer"):
        write(sine(amplitude=2.0), tmp_path / "a.wav")
    write(sine(amplitude=2.0), tmp_path / "b.wav", subtype="FLOAT")
    assert Audio.load(tmp_path / "b.wav").peak == 2.0


def test_the_form_says_what_is_there(tmp_path: Path) -> None:
    sine(channels=2, seconds=0.5).save(tmp_path / "a.wav", subtype="PCM_24")
    form = Form.of(tmp_path / "a.wav")
    assert form == Form(RATE, 2, RATE // 2, "PCM_24")
    assert form.seconds == 0.5


@pytest.mark.parametrize(
    ("subtype", "name", "kept"),
    [
        ("PCM_24", "wav", "PCM_24"),
        ("PCM_24", "flac", "PCM_24"),
        ("PCM_24", "WAV", "PCM_24"),
        ("FLOAT", "wav", "FLOAT"),
        ("FLOAT", "flac", None),
        ("ULAW", "wav", "ULAW"),
        ("PCM_24", "mp3", None),
        ("MPEG_LAYER_III", "wav", None),
        ("OPUS", "ogg", None),
    ],
)
def test_a_sample_format_is_kept_where_it_can_be(subtype: str, name: str, kept: str | None) -> None:
    assert Form(8000, 1, 100, subtype).kept_in(name) == kept


def test_samples_are_counted_where_a_file_cannot_know_how_many_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(streamed_flac(sine()))
    assert Form.of(tmp_path / "a.flac") == Form(RATE, 1, RATE, "PCM_16")


def test_an_mp3_file_called_wav_is_read_as_what_it_is(tmp_path: Path) -> None:
    sine().save(tmp_path / "a.wav", format="mp3")
    assert Form.of(tmp_path / "a.wav").subtype == "MPEG_LAYER_III"
    assert sum(block.shape[1] for block in read_blocks(tmp_path / "a.wav", samples=999)) == RATE


def test_a_wav_file_that_was_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    sine().save(tmp_path / "a.wav")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: 44 + 2 * 500])
    assert sum(block.shape[1] for block in read_blocks(tmp_path / "a.wav", samples=99)) == 500


@pytest.mark.parametrize("content", [b"", b"this is no sound\n" * 100])
def test_what_is_no_audio_is_refused_as_when_loaded(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(HissError) as loaded:
        Audio.load(path)
    for read in (lambda: Form.of(path), lambda: list(read_blocks(path, samples=10))):
        with pytest.raises(HissError) as error:
            read()
        assert str(error.value) == str(loaded.value)


def test_a_file_without_samples_or_none_at_all_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 8000)
    with pytest.raises(HissError, match="holds no samples"):
        Form.of(tmp_path / "a.wav")
    with pytest.raises(HissError, match="holds no samples"):
        list(read_blocks(tmp_path / "a.wav", samples=10))
    with pytest.raises(HissError, match="No such file"):
        Form.of(tmp_path / "b.wav")


def test_nan_is_refused_in_the_block_that_holds_it(tmp_path: Path) -> None:
    samples = np.zeros(1000)
    samples[500] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    blocks = read_blocks(tmp_path / "a.wav", samples=400)
    next(blocks)
    with pytest.raises(HissError, match=r"a\.wav holds NaN"):
        next(blocks)


def test_without_save_nothing_is_there_and_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("before")
    with BlockWriter(tmp_path / "a.wav", sample_rate=8000, channels=1) as writer:
        writer.append(torch.zeros(1, 100))
        with pytest.raises(HissError, match="NaN"):
            writer.append(torch.full((1, 5), torch.nan))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_text() == "before"


def test_what_a_format_does_not_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mp3 cannot hold 96000 Hz"):
        BlockWriter(tmp_path / "a.mp3", sample_rate=96_000, channels=1)
    with pytest.raises(UsageError, match="mp3 holds at most 2 channels"):
        BlockWriter(tmp_path / "a.mp3", sample_rate=48_000, channels=6)
    with pytest.raises(UsageError, match="unknown audio format 'xyz'"):
        BlockWriter(tmp_path / "a.xyz", sample_rate=48_000, channels=1)
    with pytest.raises(HissError, match="cannot write"):
        BlockWriter(tmp_path / "none" / "a.wav", sample_rate=48_000, channels=1)
    assert list(tmp_path.iterdir()) == []


def test_nothing_cannot_be_saved(tmp_path: Path) -> None:
    with (
        BlockWriter(tmp_path / "a.wav", sample_rate=8000, channels=1) as writer,
        pytest.raises(HissError, match="zero length"),
    ):
        writer.save()
    assert list(tmp_path.iterdir()) == []


def test_wav_files_beyond_their_limit_get_sizes_of_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LARGEST_WAV", 1000)
    write(sine(), tmp_path / "a.wav")
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert Audio.load(tmp_path / "a.wav").seconds == 1
