"""Raw samples: byte for byte what libsndfile writes, and WAV streams whose end nobody knows."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hiss.audio.pcm import ENCODINGS, Pcm, is_wav, read_header
from hiss.errors import HissError, UsageError

SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE"}


def stream(
    *chunks: tuple[bytes, bytes], size: int = 0xFFFFFFFF, code: int = 1, bits: int = 16, more: bytes = b""
) -> io.BytesIO:
    """Returns the beginning of a WAV stream of 8000 Hz, two channels, after its first 12 bytes."""
    form = struct.pack("<HHIIHH", code, 2, 8000, 8000 * bits // 4, bits // 4, bits) + more
    parts = [name + struct.pack("<I", len(content)) + content for name, content in [(b"fmt ", form), *chunks]]
    return io.BytesIO(b"".join(parts) + b"data" + struct.pack("<I", size) + b"samples")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_samples_are_read_and_written_as_by_libsndfile(encoding: str, tmp_path: Path) -> None:
    samples = 1.1 * (2 * torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)) - 1)
    pcm = Pcm(8000, 2, encoding, size=2 * 1000 * ENCODINGS[encoding])
    soundfile.write(tmp_path / "a.wav", samples.T.numpy(), 8000, subtype=SUBTYPES[encoding])
    content = pcm.encode(samples)
    assert len(content) == pcm.size == 1000 * pcm.frame
    assert content in (tmp_path / "a.wav").read_bytes()
    back = soundfile.read(tmp_path / "a.wav", dtype="float32")[0].T
    assert np.array_equal(pcm.decode(content).numpy(), back)
    assert pcm.encode(pcm.decode(content)) == content


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("known", [True, False])
def test_a_header_says_what_follows(encoding: str, known: bool) -> None:
    pcm = Pcm(44100, 2, encoding, size=30 * 2 * ENCODINGS[encoding] if known else None)
    content = pcm.header() + pcm.encode(torch.zeros(2, 30))
    assert is_wav(content[:12])
    assert read_header(io.BytesIO(content[12:])) == pcm
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.samplerate, file.channels, file.subtype) == (44100, 2, SUBTYPES[encoding])
        assert len(file.read()) == 30


@pytest.mark.parametrize("size", [0, 0x7FFFFFD8, 0x7FFFF000, 0xFFFFFFFF])
def test_lengths_that_programs_write_into_pipes_mean_until_the_end(size: int) -> None:
    source = stream((b"LIST", b"INFOISFT\x05\x00\x00\x00Lavf\x00\x00"), (b"odd ", b"abc\x00"[:4]), size=size)
    assert read_header(source) == Pcm(8000, 2, "s16", None)
    assert source.read() == b"samples"


def test_chunks_of_odd_length_are_padded() -> None:
    source = io.BytesIO(b"odd " + struct.pack("<I", 3) + b"abc\x00" + stream(size=8).getvalue())
    assert read_header(source) == Pcm(8000, 2, "s16", 8)


def test_an_extensible_header_names_its_samples_further_down() -> None:
    more = struct.pack("<HHI", 22, 24, 3) + struct.pack("<H", 1) + bytes(14)
    assert read_header(stream(code=0xFFFE, bits=24, more=more)).encoding == "s24"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (stream(code=2, bits=4), "samples of kind 2 with 4 bits"),
        (io.BytesIO(b"fmt \x10\x00"), "ends within its header"),
        (io.BytesIO(b"data\xff\xff\xff\xff"), "before it says what they are"),
        (io.BytesIO(b"fmt \x02\x00\x00\x00ab"), "does not say what its samples are"),
    ],
)
def test_a_damaged_header_is_refused(source: io.BytesIO, said: str) -> None:
    with pytest.raises(HissError, match=said):
        read_header(source)


def test_raw_samples_must_be_described() -> None:
    with pytest.raises(UsageError, match=r"unknown encoding 's17' .did you mean 's16'"):
        Pcm(8000, 1, "s17")
    with pytest.raises(UsageError, match="1 to 256 channels"):
        Pcm(8000, 0)
    with pytest.raises(UsageError, match="0 Hz"):
        Pcm(0)
    assert not is_wav(b"\x00" * 12)
    assert not is_wav(b"")
