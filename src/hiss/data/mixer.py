"""How one clip of speech becomes a noisy recording: a chain of chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.signal.damage import band_limit, change_speed, clip, equalise, once_at, quantise
from hiss.signal.mixing import level, mix, repeat
from hiss.signal.noises import NOISES, babble, curve
from hiss.signal.rooms import random_response, reverberate
from hiss.spec import Spec

FRAME = 0.02
"""Seconds of the frames in which levels are measured."""
EARLY = 0.05
"""Seconds after the direct sound whose reflections belong to the clean recording."""

_FAINTEST = 1e-6  # RMS of -120 dBFS: below it there is nothing to mix


@dataclass(frozen=True, kw_only=True)
class Chances(Spec):
    """How often what happens to a mixture: shares from 0 to 1 of all mixtures, and ranges from least to most."""

    snr: tuple[float, float] = (-5.0, 20.0)
    """dB between clean speech and noise, both measured where they are active; see `hiss.signal.mixing.level`."""
    peak: tuple[float, float] = (-40.0, -3.0)
    """dBFS of the largest sample of the noisy or the clean recording, whichever is louder."""
    clean: float = 0.05
    """Speech alone, not damaged: what comes is what is wanted."""
    noise_only: float = 0.05
    """Noise alone: silence is wanted."""
    synthetic: float = 0.4
    """Noises (not mixtures) that are made instead of recorded; all of them where there are no recordings."""
    babble: float = 0.1
    """Noises made of 3 to 8 voices of the speech itself; counted before `synthetic`."""
    second: float = 0.3
    """A second noise within 10 dB of the first."""
    reverb: float = 0.3
    """The speaker is in a room; the wanted speech keeps what arrives within 50 ms of the direct sound."""
    reverberation_time: tuple[float, float] = (0.1, 0.6)
    """Seconds in which the sound in a room falls by 60 dB."""
    rooms: int = 64
    """How many rooms there are."""
    speed: float = 0.4
    """Speech is played faster or slower, so its pitch is higher or lower."""
    speeds: tuple[float, float] = (0.85, 1.15)
    """How many times as fast."""
    colour: float = 0.5
    """Speech, and apart from it noise, comes through another microphone: normal deviations of 4 dB an octave apart."""
    band_limit: float = 0.1
    """Only a band is left, of the noisy recording and of what is wanted: from 0 to 300 Hz up to 3 to 7.5 kHz."""
    resampled: float = 0.5
    """Everything was at another rate once, from half of this one up and mostly close to it, speech alone included.
    Without it the clean recordings of a set, which are resampled, differ from noisy ones by the edge of their band, and
    a network learns to leave alone whatever has that edge."""
    clip: float = 0.1
    """The noisy recording is cut off at 1 to 12 dB below its peak."""
    codec: float = 0.05
    """The noisy recording is rounded to 8 to 12 bits, or to 8 by the mu-law of telephones."""

    def __post_init__(self) -> None:
        for name in ("clean", "noise_only", "synthetic", "babble", "second", "reverb", "speed", "colour"):
            _check_share(name, getattr(self, name))
        for name in ("band_limit", "resampled", "clip", "codec"):
            _check_share(name, getattr(self, name))
        if self.clean + self.noise_only > 1:
            raise UsageError(f"clean and noise_only are shares of all, not {self.clean} and {self.noise_only}")
        for name in ("snr", "peak", "reverberation_time", "speeds"):
            least, most = getattr(self, name)
            if not least <= most:
                raise UsageError(f"{name} goes from least to most, not from {least} to {most}")
        if self.peak[1] > 0:
            raise UsageError(f"peak is at most 0 dBFS, not {self.peak[1]}")
        if self.reverberation_time[0] <= 0 or self.speeds[0] <= 0:
            raise UsageError(f"times and speeds are above 0, not {self.reverberation_time[0]} and {self.speeds[0]}")
        if self.rooms < 1:
            raise UsageError(f"there is at least one room, not {self.rooms}")


class Mixer:
    """Turns clips of speech and noise into a noisy recording and what is wanted of it."""

    def __init__(self, chances: Chances, *, sample_rate: int, samples: int, crowd: Sequence[Tensor]) -> None:
        """Keeps the voices [channels, samples] that babble is made of; at least one."""
        self.chances, self.sample_rate, self.samples = chances, sample_rate, samples
        self.crowd = crowd
        self.frame = max(1, round(FRAME * sample_rate))
        self._rooms: dict[int, Tensor] = {}

    @staticmethod
    def needed(chances: Chances, samples: int) -> int:
        """Returns how many samples of speech fill a clip at the highest speed."""
        return ceil(samples * max(1.0, chances.speeds[1])) if chances.speed else samples

    def __call__(self, speech: Tensor, recorded: Sequence[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns (clean, noisy), each [channels, samples].

        Args:
            speech: [channels, samples of `needed`].
            recorded: noises [channels, any samples]: two, or none if there are only synthetic ones.
            generator: decides on everything.
        """
        chances = self.chances
        kind, speed, reverb, colour = torch.rand(4, generator=generator).tolist()
        if speed < chances.speed:
            speech = change_speed(speech, _between(chances.speeds, generator))
        speech = speech[:, : self.samples]
        if speech.shape[1] < self.samples:
            speech = torch.nn.functional.pad(speech, (0, self.samples - speech.shape[1]))
        if colour < chances.colour:
            speech = self._coloured(speech, generator)
        alone = kind < chances.clean
        if kind > 1 - chances.noise_only:
            speech = torch.zeros_like(speech)
        clean = heard = speech
        if reverb < chances.reverb and not alone:
            heard, clean = reverberate(speech, self._room(generator), early=round(EARLY * self.sample_rate))
        if alone:
            noisy = clean
        else:
            noise = self._noise(speech.shape[0], recorded, generator)
            # The noise is set against what is wanted; what the room adds to that comes on top.
            noisy = mix(clean, noise, _between(chances.snr, generator), frame=self.frame) + (heard - clean)
            noisy, clean = self._damaged(noisy, clean, generator)
        if _chance(chances.resampled, generator):
            share = 1 - 0.5 * _between((0, 1), generator) ** 2
            noisy, clean = once_at(noisy, share), once_at(clean, share)
        peak = float(torch.maximum(noisy.abs().amax(), clean.abs().amax()))
        gain = 10 ** (_between(chances.peak, generator) / 20) / peak if peak > _FAINTEST else 1.0
        return gain * clean, gain * noisy

    def _noise(self, channels: int, recorded: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """Returns one noise, or two together, [channels, samples]."""
        noises = [self._one_noise(channels, recorded[:1], generator)]
        if _chance(self.chances.second, generator):
            noises.append(self._one_noise(channels, recorded[1:2], generator))
            return mix(noises[0], noises[1], _between((-10, 10), generator), frame=self.frame)
        return noises[0]

    def _one_noise(self, channels: int, recorded: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        if _chance(self.chances.babble, generator):
            voices = int(torch.randint(3, 9, (), generator=generator))
            chosen = torch.randint(len(self.crowd), (voices,), generator=generator).tolist()
            noise = babble(torch.stack([self.crowd[index] for index in chosen]), generator)
        elif not recorded or _chance(self.chances.synthetic, generator):
            names = list(NOISES)
            name = names[int(torch.randint(len(names), (), generator=generator))]
            return NOISES[name](channels, self.samples, self.sample_rate, generator)  # has its colour already
        else:
            noise = repeat(recorded[0], self.samples)
        return self._coloured(noise, generator) if _chance(self.chances.colour, generator) else noise

    def _damaged(self, noisy: Tensor, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns (noisy, clean) after what microphones, lines and codecs do."""
        if _chance(self.chances.band_limit, generator):
            band = _between((0, 300), generator), min(_between((3000, 7500), generator), 0.5 * self.sample_rate)
            noisy, clean = (band_limit(one, *band, sample_rate=self.sample_rate) for one in (noisy, clean))
        if _chance(self.chances.clip, generator):
            noisy = clip(noisy, _between((1, 12), generator))
        if _chance(self.chances.codec, generator):
            peak = noisy.abs().amax().clamp(min=_FAINTEST)
            bits = int(torch.randint(7, 13, (), generator=generator))
            noisy = peak * (quantise(noisy / peak, 8, mu=255) if bits == 7 else quantise(noisy / peak, bits))
        return noisy, clean

    def _coloured(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        curve_of = curve(generator, deviation=4.0, sample_rate=self.sample_rate)
        return equalise(audio, curve_of, sample_rate=self.sample_rate)

    def _room(self, generator: torch.Generator) -> Tensor:
        """Returns the response of one of the rooms, made when it is first entered."""
        room = int(torch.randint(self.chances.rooms, (), generator=generator))
        if room not in self._rooms:
            self._rooms[room] = random_response(
                seeded("room", room), sample_rate=self.sample_rate, reverberation_time=self.chances.reverberation_time
            )
        return self._rooms[room]


def audible(audio: Tensor) -> bool:
    """Returns whether audio [channels, samples] is more than silence."""
    return float(level(audio)) > _FAINTEST


def _chance(share: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < share


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    least, most = limits
    return least + (most - least) * float(torch.rand((), generator=generator))


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise UsageError(f"{name} is a share from 0 to 1, not {share}")
