"""A recording in memory, and everything that can be done with it."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soxr
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from hiss.audio import files, filters, levels
from hiss.audio.files import MOST_CHANNELS, Place, replacing
from hiss.audio.levels import Level
from hiss.errors import UsageError

Sound = TypeVar("Sound", "Audio", NDArray[Any])


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Audio:
    """A recording. It is never changed in place: every method returns a new one."""

    samples: Tensor
    """float32 [channels, samples]; full scale is [-1, 1], and more is allowed in memory."""
    sample_rate: int
    """Hz."""

    def __init__(self, samples: Tensor | NDArray[Any], sample_rate: int) -> None:
        """Copies floating point `samples`: [channels, samples], or [samples] for mono.

        Raises:
            UsageError: another shape or type, no channel, or a sample rate that is no positive integer.
        """
        object.__setattr__(self, "samples", _checked(samples))
        if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, np.integer)) or sample_rate <= 0:
            raise UsageError(f"sample_rate must be a positive integer in Hz, not {sample_rate!r}")
        object.__setattr__(self, "sample_rate", int(sample_rate))

    @classmethod
    def load(
        cls,
        path: Place,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        start: float = 0.0,
        seconds: float | None = None,
    ) -> "Audio":
        """Returns the recording in a WAV, FLAC, OGG (Vorbis, Opus), MP3 or AIFF file, or in an open binary file.

        The content decides what the format is, not the ending. `sample_rate` (Hz) and `channels` convert; `start` and
        `seconds` read a part without decoding the rest. A WAV or MP3 file that was cut off gives what is there.

        Raises:
            HissError: there is no such file, it is no audio, it is damaged, it holds no samples, or NaN or infinity.
        """
        audio = cls(*files.read(path, start=start, seconds=seconds))
        if channels is not None:
            audio = audio.to_channels(channels)
        return audio if sample_rate is None else audio.resample(sample_rate)

    def save(
        self, path: str | Path, *, format: str | None = None, subtype: str | None = None, resample: bool = False
    ) -> None:
        """Writes a file of the format that `format` or the ending of `path` names, whole or not at all.

        `format` is one of `FORMATS`; `subtype` is libsndfile's name of a sample format, such as "PCM_24" or "FLOAT"
        (usual: 16-bit). MP3 and Opus know only the rates in `RATES`; `resample` goes to the nearest of them. Samples
        beyond [-1, 1] are scaled down as a whole, with a warning, unless the sample format is floating point.

        Raises:
            UsageError: an unknown format or sample format, or a rate that the format does not know.
            HissError: NaN or infinite samples, no samples, or the file cannot be written.
        """
        path = Path(path)
        data = self.encode(format or path.suffix.lstrip("."), subtype=subtype, resample=resample)
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    def encode(self, format: str = "wav", *, subtype: str | None = None, resample: bool = False) -> bytes:
        """Returns the content of an audio file; arguments and errors are those of `save`."""
        name = format.lower()
        subtype = files.sample_format(name, subtype)
        files.check_length(self.samples.shape[1])
        files.check_sound(self.samples)
        files.check_channels(name, self.channels)
        rate = files.fitting_rate("opus" if subtype == "OPUS" else name, self.sample_rate, nearest=resample)
        audio = self.resample(rate)
        audio = audio._scaled(files.fitting_gain(audio.peak, subtype))
        content, shape = io.BytesIO(), (audio.channels, audio.samples.shape[1])
        files.write(content, [audio.samples], shape=shape, sample_rate=rate, name=name, subtype=subtype)
        return content.getvalue()

    @property
    def channels(self) -> int:
        """How many channels there are, at least 1."""
        return self.samples.shape[0]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.samples.shape[1] / self.sample_rate

    @property
    def peak(self) -> float:
        """The largest absolute sample; 0 for zero length."""
        return levels.peak(self.samples)

    @property
    def rms(self) -> float:
        """The root of the mean square over all channels; 0 for zero length."""
        return levels.rms(self.samples)

    def mono(self) -> "Audio":
        """Returns the mean of the channels."""
        return self.to_channels(1)

    def to_channels(self, channels: int) -> "Audio":
        """Returns this audio with that many channels: many become one by their mean, one becomes many by copies.

        Raises:
            UsageError: any other change, which has no single meaning.
        """
        if channels == self.channels:
            return self
        if channels == 1:
            return Audio(self.samples.mean(0, keepdim=True), self.sample_rate)
        if self.channels == 1 and channels > 1:
            return Audio(self.samples.expand(channels, -1), self.sample_rate)
        raise UsageError(f"cannot turn {self.channels} channels into {channels}; only from or to one channel")

    def cut(self, start: float = 0.0, stop: float | None = None) -> "Audio":
        """Returns the part from `start` to `stop` seconds, rounded to samples; to the end where `stop` is left out.

        Raises:
            UsageError: it does not lie within the audio.
        """
        stop = self.seconds if stop is None else stop
        if not 0 <= start <= stop <= self.seconds:
            raise UsageError(f"{start} s to {stop} s is no part of audio of {self.seconds:.3f} s")
        return Audio(
            self.samples[:, round(start * self.sample_rate) : round(stop * self.sample_rate)], self.sample_rate
        )

    def resample(self, rate: int) -> "Audio":
        """Returns this audio at `rate` Hz, of round(samples * rate / sample_rate) samples."""
        if rate == self.sample_rate:
            return self
        empty = Audio(self.samples[:, :0], rate)  # refuses a rate that is none
        if not self.samples.shape[1]:
            return empty
        return Audio(soxr.resample(self.samples.T.numpy(), self.sample_rate, rate).T, rate)

    def normalize(self, mode: Level = "peak", level: float | None = None) -> "Audio":
        """Returns this audio at a level; silence stays silence.

        "peak" sets the largest sample (usual: -1 dBFS), "rms" the root mean square over all channels (-20 dBFS), "lufs"
        the integrated loudness of ITU-R BS.1770-4 (-23 LUFS), "none" nothing. RMS and loudness may carry peaks beyond
        full scale; `save` then scales down. A clip shorter than a loudness block of 0.4 s is measured as one block of
        its own length.

        Raises:
            UsageError: unknown mode, or loudness of more than five channels.
        """
        return self._scaled(levels.gain(self.samples, self.sample_rate, mode, level))

    def high_pass(self, hz: float, *, order: int = 4) -> "Audio":
        """Returns this audio without what lies below `hz`.

        A Butterworth filter of that order runs forwards and backwards: no delay, -6 dB at `hz`, and 12 * order dB
        an octave.
        """
        return Audio(filters.butterworth(self.samples, self.sample_rate, "highpass", hz, order), self.sample_rate)

    def low_pass(self, hz: float, *, order: int = 4) -> "Audio":
        """Returns this audio without what lies above `hz`; see `high_pass`."""
        return Audio(filters.butterworth(self.samples, self.sample_rate, "lowpass", hz, order), self.sample_rate)

    def fade(self, fade_in: float = 0.0, fade_out: float = 0.0) -> "Audio":
        """Returns this audio with raised-cosine ramps of that many seconds, each at most as long as the audio."""
        return Audio(filters.fade(self.samples, self.sample_rate, fade_in, fade_out), self.sample_rate)

    def _scaled(self, gain: float) -> "Audio":
        if gain == 1:
            return self
        scaled = Audio(self.samples, self.sample_rate)  # a copy, and in memory the only one
        scaled.samples.mul_(gain)
        return scaled

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Returns [samples, channels], as soundfile and SciPy want it."""
        array: NDArray[Any] = self.samples.T.numpy()
        return array if copy is False and dtype in (None, array.dtype) else np.array(array, dtype=dtype)

    def __repr__(self) -> str:
        return f"Audio({self.seconds:.3f} s, {self.channels} channels, {self.sample_rate} Hz)"

    def _repr_html_(self) -> str:
        """Returns a player for a notebook."""
        content = base64.b64encode(self.encode("wav")).decode()
        return f'<audio controls src="data:audio/wav;base64,{content}"></audio>'


def normalize_audio(
    audio: Sound, mode: Level = "peak", *, level: float | None = None, sample_rate: int | None = None
) -> Sound:
    """Returns audio at a level, as `Audio.normalize` sets it, of the type that came.

    An array is [samples] or [samples, channels], floating point; only "lufs" needs its `sample_rate` in Hz.
    """
    if isinstance(audio, Audio):
        return audio.normalize(mode, level)
    if mode == "lufs" and sample_rate is None:
        raise UsageError("loudness of an array needs its sample_rate in Hz: pass sample_rate=, or an Audio")
    normalized = np.asarray(Audio(audio.T, sample_rate or 1).normalize(mode, level))
    return normalized.reshape(audio.shape).astype(audio.dtype)


def _checked(samples: Tensor | NDArray[Any]) -> Tensor:
    """Returns a float32 copy [channels, samples] on the CPU, or says what is wrong with `samples`."""
    if not isinstance(samples, (Tensor, np.ndarray)):
        raise UsageError(f"audio samples must be a tensor or a NumPy array, not {type(samples).__name__}")
    floating = samples.is_floating_point() if isinstance(samples, Tensor) else samples.dtype.kind == "f"
    if not floating:
        raise UsageError(f"audio samples must be floating point, not {samples.dtype}; divide 16-bit integers by 32768")
    shape = tuple(samples.shape)
    if len(shape) not in (1, 2):
        raise UsageError(f"audio samples must be [samples] or [channels, samples], not of shape {shape}")
    if len(shape) == 2 and not 1 <= shape[0] <= MOST_CHANNELS:
        raise UsageError(
            f"audio samples must be [channels, samples] with 1 to {MOST_CHANNELS} channels, not of shape {shape}; "
            "transpose what is [samples, channels]"
        )
    if not isinstance(samples, Tensor):
        samples = torch.from_numpy(np.array(samples, dtype=np.float32))
    return samples.detach().to("cpu", torch.float32, copy=True).reshape(1 if len(shape) == 1 else shape[0], shape[-1])
