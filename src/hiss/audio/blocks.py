"""Recordings of any length, read and written block by block."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import torch
from torch import Tensor

from hiss.audio import files, levels
from hiss.audio.files import FORMATS, opened, replacing

_KEPT = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_BLOCK = 1 << 16  # frames


@dataclass(frozen=True)
class Form:
    """What an audio file is, apart from its sound."""

    sample_rate: int
    """Hz."""
    channels: int
    samples: int
    """As many as the file claims to have, or as are found where it cannot know; one that was cut off may hold fewer."""
    subtype: str
    """libsndfile's name of the sample format, such as "PCM_24"."""

    @classmethod
    def of(cls, path: Path) -> "Form":
        """Returns that of a file.

        Raises:
            HissError: there is no such file, it is no audio, or it holds no samples.
        """
        with opened(path) as file:
            form = cls(file.samplerate, file.channels, files.frames(file), file.subtype)
        files.check_there(path, form.samples)
        return form

    @property
    def seconds(self) -> float:
        """How long the file claims to last."""
        return self.samples / self.sample_rate

    def kept_in(self, name: str) -> str | None:
        """Returns this sample format if files of the format `name` know it, too, so that 24 bits stay 24 bits.

        Compressed formats are not kept: their content does not survive a change anyway.

        Raises:
            UsageError: there is no such format.
        """
        name = name.lower()
        files.sample_format(name, None)
        known = soundfile.check_format(FORMATS[name][0], self.subtype)
        return self.subtype if known and self.subtype in _KEPT else None


def read_blocks(path: Path, *, samples: int) -> Iterator[Tensor]:
    """Yields the sound of a file: float32 blocks [channels, samples], all but the last of that many samples.

    Raises:
        HissError: as `Audio.load`, where the damage is met.
    """
    found = 0
    with opened(path) as file:
        for block in files.decoded(file, samples):
            files.check_finite(path, block)
            found += len(block)
            yield torch.from_numpy(block.T)
    files.check_there(path, found)


class BlockWriter:
    """A file that is written block by block, whole or not at all: it is there after `save`, and not before.

    Until then the sound lies in a nameless file beside it, since only all of it tells the peak.
    """

    def __init__(
        self, path: Path, *, sample_rate: int, channels: int, format: str | None = None, subtype: str | None = None
    ) -> None:
        """Opens nothing but the nameless file; arguments and errors are those of `Audio.save`."""
        self.path = path
        self.sample_rate, self.channels, self.samples = sample_rate, channels, 0
        self.format = (format or path.suffix.lstrip(".")).lower()
        self.subtype = files.sample_format(self.format, subtype)
        files.check_channels(self.format, channels)
        files.fitting_rate("opus" if self.subtype == "OPUS" else self.format, sample_rate, nearest=False)
        self._peak = 0.0
        with self._writing():
            self._sound = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  (closed by close)

    def append(self, samples: Tensor) -> None:
        """Adds samples [channels, samples].

        Raises:
            HissError: NaN or infinite samples, or the disk is full.
        """
        files.check_sound(samples)
        self._peak = max(self._peak, levels.peak(samples))
        self.samples += samples.shape[1]
        with self._writing():
            self._sound.write(samples.T.contiguous().numpy().tobytes())

    def save(self) -> None:
        """Makes the file of all that was appended; scales down and warns as `Audio.save` does.

        Raises:
            HissError: nothing was appended, or the file cannot be written.
        """
        files.check_length(self.samples)
        gain = files.fitting_gain(self._peak, self.subtype, path=self.path)
        with self._writing():
            self._sound.seek(0)
        with replacing(self.path) as temporary:
            files.write(
                temporary,
                self._blocks(gain),
                shape=(self.channels, self.samples),
                sample_rate=self.sample_rate,
                name=self.format,
                subtype=self.subtype,
            )

    def close(self) -> None:
        """Forgets what was appended."""
        self._sound.close()

    def __enter__(self) -> "BlockWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _blocks(self, gain: float) -> Iterator[Tensor]:
        while content := self._sound.read(_BLOCK * self.channels * 4):
            block = torch.from_numpy(np.frombuffer(content, np.float32).reshape(-1, self.channels).T.copy())
            yield block if gain == 1 else block * gain

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise files.unwritable(self.path, error) from error
