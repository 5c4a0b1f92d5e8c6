"""Audio files: what formats there are, reading and writing them, and writing any file whole or not at all."""

import uuid
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from math import log10
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from hiss.errors import HissError, UsageError, unknown

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Container and usual sample format of every file format that can be written."""

ENDINGS = ("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf", "w64", "rf64")
"""Of files in a folder that are taken for audio."""

UNREAD = ("3gp", "aac", "ac3", "amr", "ape", "m4a", "m4b", "mka", "mkv", "mov", "mp4", "tta", "webm", "wma", "wv")
"""Of files in a folder that are audio, or video with sound, in formats that libsndfile does not read."""

MOST_CHANNELS = 256
"""The most channels that a recording has."""

CHANNELS = {"flac": 8, "mp3": 2}
"""The most channels that a format holds; the others take any number."""

RATES: dict[str, Sequence[int]] = {
    "flac": range(1, 655_351),
    "ogg": range(1, 200_001),
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "opus": (8000, 12000, 16000, 24000, 48000),
}
"""Hz that a format is limited to; WAV takes any rate."""

Place = str | Path | BinaryIO
"""A path, or an open binary file."""

FLOATING = ("FLOAT", "DOUBLE")
"""Sample formats that hold more than full scale."""

_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
"""Of a sample, where it is more than one."""
_LARGEST_WAV = (1 << 32) - (1 << 20)  # bytes; its header counts them in 32 bits
_UNKNOWN = 1 << 40  # frames that no file has; of FLAC that was written as a stream libsndfile claims 2^63 - 1
_BLOCK = 1 << 16  # frames; libsndfile's Vorbis encoder keeps each write on the stack
_MP3_LEAD = 2  # seconds; MP3 frames borrow bits from those before, and a seek alone lands among wrong samples


def sample_format(name: str, subtype: str | None) -> str:
    """Returns the sample format that `subtype` names in files of the format `name`, or their usual one.

    Raises:
        UsageError: there is no such format or sample format.
    """
    if name not in FORMATS:
        raise unknown("audio format", name, FORMATS)
    container, usual = FORMATS[name]
    subtype = (subtype or usual).upper()
    if not soundfile.check_format(container, subtype):
        raise unknown(f"sample format of {name}", subtype, soundfile.available_subtypes(container))
    return subtype


def fitting_rate(name: str, sample_rate: int, *, nearest: bool) -> int:
    """Returns a rate in Hz that the format `name` holds: `sample_rate`, or if asked for the nearest one.

    Raises:
        UsageError: the format does not hold `sample_rate`, and `nearest` is not asked for.
    """
    rates = RATES.get(name, ())
    if not rates or sample_rate in rates:
        return sample_rate
    if not nearest:
        valid = f"1 to {rates[-1]}" if isinstance(rates, range) else ", ".join(map(str, rates))
        raise UsageError(f"{name} cannot hold {sample_rate} Hz; valid are {valid}: resample to one of them")
    return min(rates, key=lambda rate: (abs(rate - sample_rate), -rate))


def check_length(samples: int) -> None:
    """Raises a `HissError` if there is nothing to write."""
    if not samples:
        raise HissError("cannot save audio of zero length: a file holds at least one sample")


def check_sound(samples: Tensor) -> None:
    """Raises a `HissError` if samples to write are NaN or infinite."""
    if not bool(torch.isfinite(samples).all()):
        raise HissError("cannot save audio with NaN or infinite samples: whatever computed them went wrong")


def check_channels(name: str, channels: int) -> None:
    """Raises a `UsageError` if a file of the format `name` does not hold that many channels."""
    if channels > (most := CHANNELS.get(name, MOST_CHANNELS)):
        raise UsageError(f"{name} holds at most {most} channels, not {channels}; use wav, or mono()")


def fitting_gain(peak: float, subtype: str, *, path: Path | None = None) -> float:
    """Returns the factor that brings a recording within what the sample format holds: 1 unless the peak is beyond it.

    Warns where it is not 1, and names the `path`.
    """
    if subtype in FLOATING or peak <= 1:
        return 1.0
    decibels = 20 * log10(peak)
    where = "" if path is None else f" of {path}"
    warnings.warn(f"the peak {peak:.3g}{where} is beyond full scale: saved {decibels:.1f} dB softer", stacklevel=4)
    return 1 / peak


def write(
    target: Place, blocks: Iterable[Tensor], *, shape: tuple[int, int], sample_rate: int, name: str, subtype: str
) -> None:
    """Writes a file of the format `name` with samples [channels, samples] that come in blocks.

    `shape` is that of all blocks together. A WAV file beyond 4 GiB becomes one with 64-bit sizes (RF64).

    Raises:
        HissError: the format cannot hold them, or the disk is full.
    """
    channels, samples = shape
    container = FORMATS[name][0]
    if container == "WAV" and channels * samples * _BYTES.get(subtype, 1) > _LARGEST_WAV:
        container = "RF64"
    try:
        with soundfile.SoundFile(target, "w", sample_rate, channels, subtype=subtype, format=container) as file:
            for block in blocks:
                for part in torch.split(block.T, _BLOCK):
                    file.write(part.numpy())
    except soundfile.LibsndfileError as error:
        raise HissError(
            f"cannot write {channels} channels at {sample_rate} Hz as {name}: {error.error_string}"
        ) from error


def read(path: Place, *, start: float = 0.0, seconds: float | None = None) -> tuple[NDArray[np.float32], int]:
    """Returns float32 samples [channels, samples] of a file, or of `seconds` of it from `start` on, and the rate in Hz.

    Raises:
        HissError: it cannot be read, or there are no samples, or some that are NaN or infinite.
    """
    with opened(path) as file:
        rate, length = int(file.samplerate), frames(file)
        first = round(start * rate)
        if start < 0 or first >= max(length, 1):
            raise HissError(f"{called(path)} lasts {length / rate:.3f} s: nothing at {start} s")
        lead = min(first, _MP3_LEAD * rate) if file.format == "MP3" else 0
        file.seek(first - lead)
        count = length - first if seconds is None else min(length - first, round(seconds * rate))
        samples: NDArray[np.float32] = file.read(lead + count, dtype="float32", always_2d=True)[lead:]
    check_there(path, len(samples))
    check_finite(path, samples)
    return samples.T, rate


def frames(file: soundfile.SoundFile) -> int:
    """Returns how many frames an open file claims to have or, where it cannot know, how many there are.

    To count them it is decoded once, and then stands at its beginning again.
    """
    if file.frames < _UNKNOWN:
        return int(file.frames)
    count = sum(map(len, decoded(file, _BLOCK)))
    file.seek(0)
    return count


def decoded(file: soundfile.SoundFile, size: int) -> Iterator[NDArray[np.float32]]:
    """Yields what is left of an open file: float32 blocks [frames, channels], all but the last of `size` frames."""
    file.seekable = lambda: False  # or soundfile seeks after each read, and MP3 goes on with wrong samples
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        yield block


def check_finite(path: Place, samples: NDArray[np.float32]) -> None:
    """Raises a `HissError` if samples of a file are NaN or infinite."""
    if not np.isfinite(samples).all():
        raise HissError(f"{called(path)} holds NaN or infinite samples; export it again from its source")


def check_there(path: Place, samples: int) -> None:
    """Raises a `HissError` if there are no samples in a file."""
    if not samples:
        raise HissError(f"{called(path)} holds no samples: it is empty or was cut off")


@contextmanager
def opened(path: Place) -> Iterator[soundfile.SoundFile]:
    """Yields an audio file to read from; its content decides on the format.

    Raises:
        HissError: there is no such file, it is no audio, or it turns out to be damaged while it is read.
    """
    try:
        # libsndfile goes by the ending of a path, but has to look into an open file.
        with _stream(path) as stream, _sound_file(stream) as file:
            yield file
    except OSError as error:
        raise HissError(f"cannot read {called(path)}: {error.strerror or error}") from error
    except soundfile.SoundFileError as error:
        ending = Path(called(path)).suffix.lower().lstrip(".")
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        if ending in UNREAD:
            reason = f"{ending} is not read here; convert it with ffmpeg"
        raise HissError(f"cannot read {called(path)} as audio: {reason}") from error


def visible(folder: Path) -> list[Path]:
    """Returns everything in a folder and below, sorted, except what is hidden by a dot."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def is_audio(path: Path, endings: Collection[str] = ENDINGS) -> bool:
    """Returns whether there is a file whose ending is that of audio."""
    return path.suffix.lower().lstrip(".") in endings and path.is_file()


def all_audio(paths: Sequence[Path]) -> list[Path]:
    """Returns the audio files among paths, in order, with those in formats that are not read, for which to say so.

    A file that is not read is left out where one beside it has its name and is read: it was converted.
    """
    names = {path.with_suffix("") for path in paths if is_audio(path)}
    return [path for path in paths if is_audio(path) or (is_audio(path, UNREAD) and path.with_suffix("") not in names)]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; what stands there takes the place of `path` at the end.

    After an error nothing is left behind, and what `path` held before is untouched.

    Raises:
        HissError: the file cannot be written: read-only, no such folder, disk full.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> HissError:
    """Returns what to say of a file that cannot be written."""
    return HissError(f"cannot write {path}: {error.strerror or error}; choose a place with room to write")


def called(path: Place) -> str:
    """Returns what an error calls a file."""
    return str(path) if isinstance(path, (str, Path)) else str(getattr(path, "name", "the audio data"))


def _stream(path: Place) -> AbstractContextManager[BinaryIO]:
    return Path(path).open("rb") if isinstance(path, (str, Path)) else nullcontext(path)


def _sound_file(stream: BinaryIO) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(stream)
    except TypeError as error:  # its name ends in .raw, and soundfile asks for the rate
        raise HissError(f"cannot read {called(stream)} as audio: raw samples do not say their rate") from error
