"""Sound that flows: raw samples, or a WAV file, whose end is not known yet."""

import struct
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hiss.audio.files import MOST_CHANNELS
from hiss.errors import HissError, UsageError, unknown

ENCODINGS = {"u8": 1, "s16": 2, "s24": 3, "s32": 4, "f32": 4, "f64": 8}
"""Bytes of a sample, little-endian, by encoding: unsigned or signed whole numbers, or floating point."""

_UNKNOWN = 0xFFFFFFFF
_LONGEST = 0x7FFF0000  # bytes; what programs write that do not know the length is 0 or above this
_INTEGER, _FLOATING, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class Pcm:
    """How samples follow one another in a stream of bytes: frame by frame, in a frame channel by channel."""

    sample_rate: int
    """Hz."""
    channels: int = 1
    encoding: str = "s16"
    """One of `ENCODINGS`."""
    size: int | None = None
    """Bytes of all samples, where that is known."""

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise unknown("encoding", self.encoding, ENCODINGS)
        if self.sample_rate < 1 or not 1 <= self.channels <= MOST_CHANNELS:
            raise UsageError(
                f"a stream has a rate in Hz and 1 to {MOST_CHANNELS} channels, "
                f"not {self.sample_rate} Hz and {self.channels} channels"
            )

    @property
    def frame(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * ENCODINGS[self.encoding]

    def decode(self, content: bytes) -> Tensor:
        """Returns float32 samples [channels, samples] in [-1, 1] of whole frames, as libsndfile reads them."""
        samples: NDArray[np.float64]
        match self.encoding:
            case "f32" | "f64":
                samples = np.frombuffer(content, f"<f{ENCODINGS[self.encoding]}").astype(np.float64)
            case "u8":
                samples = (np.frombuffer(content, np.uint8) - 128.0) / 128
            case "s24":
                # The three bytes are the upper ones of four.
                wide = np.zeros((len(content) // 3, 4), np.uint8)
                wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
                samples = wide.view("<i4")[:, 0] / 2.0**31
            case encoding:
                bits = 8 * ENCODINGS[encoding]
                samples = np.frombuffer(content, f"<i{bits // 8}") / 2.0 ** (bits - 1)
        return torch.from_numpy(samples.astype(np.float32).reshape(-1, self.channels).T)

    def encode(self, samples: Tensor) -> bytes:
        """Returns the bytes of samples [channels, samples]; whole numbers end at full scale.

        They are rounded down, as libsndfile does, so that a stream is the file that would have been written.
        """
        width = ENCODINGS[self.encoding]
        values: NDArray[Any] = samples.T.contiguous().numpy().reshape(-1)
        if self.encoding in ("f32", "f64"):
            return bytes(values.astype(f"<f{width}"))
        bits = 8 * width
        whole = np.rint(values.astype(np.float64) * 2.0**31).clip(-(2**31), 2**31 - 1).astype(np.int64) >> (32 - bits)
        match self.encoding:
            case "u8":
                return bytes((whole + 128).astype(np.uint8))
            case "s24":
                return bytes(whole.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3])
            case _:
                return bytes(whole.astype(f"<i{width}"))

    def header(self) -> bytes:
        """Returns the beginning of a WAV file, up to the first sample; a length that is not known is 0xFFFFFFFF."""
        width = ENCODINGS[self.encoding]
        code = _FLOATING if self.encoding.startswith("f") else _INTEGER
        form = struct.pack(
            "<HHIIHH", code, self.channels, self.sample_rate, self.sample_rate * self.frame, self.frame, 8 * width
        )
        whole = _UNKNOWN if self.size is None else 4 + 8 + len(form) + 8 + self.size + self.size % 2
        data = _UNKNOWN if self.size is None else self.size
        start = struct.pack("<4sI4s4sI", b"RIFF", whole, b"WAVE", b"fmt ", len(form))
        return start + form + struct.pack("<4sI", b"data", data)


def is_wav(start: bytes) -> bool:
    """Returns whether a stream that begins with these 12 bytes is a WAV file."""
    return start[:4] in (b"RIFF", b"RF64") and start[8:12] == b"WAVE"


def read_header(stream: BufferedIOBase) -> Pcm:
    """Returns how the samples of a WAV file are written.

    `stream` stands after the first 12 bytes, and then at the first sample.

    Raises:
        HissError: it ends before, or has samples of another kind.
    """
    form: Pcm | None = None
    while True:
        name, size = struct.unpack("<4sI", _exactly(stream, 8))
        if name == b"data":
            if form is None:
                raise HissError("the WAV stream has samples before it says what they are; write it again")
            known = 0 < size < _LONGEST
            return Pcm(form.sample_rate, form.channels, form.encoding, size - size % form.frame if known else None)
        content = _exactly(stream, size + size % 2)
        if name == b"fmt ":
            form = _form(content)


def _form(content: bytes) -> Pcm:
    if len(content) < 16:
        raise HissError("the WAV stream does not say what its samples are; write it again")
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if code == _EXTENSIBLE and len(content) >= 26:
        (code,) = struct.unpack("<H", content[24:26])
    letter = {_INTEGER: "u" if bits == 8 else "s", _FLOATING: "f"}.get(code, "?")
    encoding = f"{letter}{bits}"
    if encoding not in ENCODINGS:
        raise HissError(
            f"the WAV stream has samples of kind {code} with {bits} bits; expected one of {', '.join(ENCODINGS)}: "
            "convert it first"
        )
    return Pcm(rate, channels, encoding)


def _exactly(stream: BufferedIOBase, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise HissError("the WAV stream ends within its header; it was cut off")
    return content
