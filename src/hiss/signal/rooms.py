"""What a room does to a voice: responses of shoebox rooms by the image-source method."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log, pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional

from hiss.signal.noises import convolve

SPEED_OF_SOUND = 343.0
"""m/s, at 20 degrees."""

_FINE = 16
"""Steps of a sample in which arrivals are placed."""
_TAPS = 20
"""Samples on each side of an arrival over which it is band-limited."""


@dataclass(frozen=True)
class Shoebox:
    """A room of six walls with a source and a microphone in it."""

    size: tuple[float, float, float]
    """m."""
    source: tuple[float, float, float]
    """m from the corner."""
    microphone: tuple[float, float, float]
    """m from the corner."""
    reflections: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    """By which factor each wall returns a pressure, from 0 to 1: the wall at 0 and its opposite, in x, y and z."""

    def response(
        self,
        *,
        sample_rate: int,
        seconds: float,
        jitter: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Returns the pressure [samples] at the microphone after an impulse at the source at time 0.

        An image at a distance of r m arrives after r / `SPEED_OF_SOUND` seconds with its reflections over 4 pi r.
        Source: Allen, Berkley 1979, "Image method for efficiently simulating small-room acoustics", equation 10, with
        arrivals between samples as in Peterson 1986, and images moved at random as in De Sena, Antonello, Moonen, van
        Waterschoot 2015, "On the modeling of rectangular geometries in room acoustic simulations".

        Args:
            sample_rate: Hz.
            seconds: length of the response.
            jitter: m, at most, by which the way from an image is longer or shorter, against the flutter of a perfect
                box; the direct way is exact.
            generator: draws it.
        """
        farthest = SPEED_OF_SOUND * seconds
        axes = zip(self.size, self.source, self.microphone, self.reflections, strict=True)
        (x, fx), (y, fy), (z, fz) = (_images(*axis, farthest) for axis in axes)
        squares = x.square()[:, None, None] + y.square()[None, :, None] + z.square()
        heard = squares < farthest**2
        distances = squares[heard].sqrt()
        factors = (fx[:, None, None] * fy[None, :, None] * fz)[heard]
        direct = int(distances.argmin())
        if jitter:
            moved = distances + jitter * (2 * torch.rand(distances.shape, generator=generator) - 1)
            moved[direct] = distances[direct]
            distances = moved.clamp(min=float(distances[direct]))
        samples = round(seconds * sample_rate)
        arrivals = (distances * (_FINE * sample_rate / SPEED_OF_SOUND)).round().long()
        fine = torch.zeros(_FINE * (samples + 2 * _TAPS))
        inside = arrivals < _FINE * samples
        pressures = factors / (4 * pi * distances)
        fine.index_add_(0, arrivals[inside] + _FINE * _TAPS, pressures[inside].float())
        made: Tensor = functional.conv1d(fine[None, None], _low_pass()[None, None], stride=_FINE)
        return made[0, 0, :samples]


def reflection(size: Sequence[float], reverberation_time: float) -> float:
    """Returns the factor by which all walls of a room return a pressure, for sound to fall by 60 dB in that time.

    Source: Eyring 1930, "Reverberation time in dead rooms", equation 23.

    Args:
        size: m, in x, y and z.
        reverberation_time: seconds.
    """
    x, y, z = size
    volume, surface = x * y * z, 2 * (x * y + y * z + z * x)
    absorption = 1 - exp(-24 * log(10) * volume / (SPEED_OF_SOUND * surface * reverberation_time))
    return sqrt(1 - absorption)


def random_response(
    generator: torch.Generator, *, sample_rate: int, reverberation_time: tuple[float, float] = (0.1, 0.6)
) -> Tensor:
    """Returns the response [samples] of a room drawn at random, from the direct sound on, which has a peak near 1.

    The room is 2.5 to 9 m long, 2.5 to 7 m wide and 2.3 to 3.6 m high; source and microphone are 0.3 to 2.5 m apart and
    at least 0.3 m from the walls, which differ. What lies below 50 Hz is taken out: there all images add up, louder and
    longer than in any room.

    Args:
        generator: draws it.
        sample_rate: Hz.
        reverberation_time: seconds, from the shortest to the longest.
    """
    from scipy.signal import butter, sosfilt

    draw = torch.rand(17, dtype=torch.float64, generator=generator).tolist()
    size = (2.5 + 6.5 * draw[0], 2.5 + 4.5 * draw[1], 2.3 + 1.3 * draw[2])
    shortest, longest = reverberation_time
    seconds = shortest * (longest / shortest) ** draw[3]
    microphone = [0.3 + (length - 0.6) * place for length, place in zip(size, draw[4:7], strict=True)]
    way = torch.tensor(draw[7:10], dtype=torch.float64) - 0.5
    way = way / way.norm().clamp(min=1e-3) * (0.3 * (2.5 / 0.3) ** draw[10])
    source = [
        min(max(place + step, 0.3), length - 0.3)
        for place, step, length in zip(microphone, way.tolist(), size, strict=True)
    ]
    if sum((a - b) ** 2 for a, b in zip(source, microphone, strict=True)) < 0.3**2:
        source[0] = microphone[0] + (0.3 if microphone[0] < size[0] / 2 else -0.3)
    mean = reflection(size, seconds)
    walls = [mean ** (0.5 + share) for share in draw[11:17]]
    room = Shoebox(
        size,
        (source[0], source[1], source[2]),
        (microphone[0], microphone[1], microphone[2]),
        ((walls[0], walls[1]), (walls[2], walls[3]), (walls[4], walls[5])),
    )
    response = room.response(sample_rate=sample_rate, seconds=0.02 + seconds, jitter=0.08, generator=generator)
    sections = butter(2, 50.0, "highpass", fs=sample_rate, output="sos")
    filtered = torch.from_numpy(sosfilt(sections, response.double().numpy())).float()
    after = filtered[_direct(room, sample_rate) :]
    return after / after[: 1 + _TAPS // 4].abs().amax()


def reverberate(audio: Tensor, response: Tensor, *, early: int) -> tuple[Tensor, Tensor]:
    """Returns audio [..., samples] in a room, and the part of it that arrives early, both as long as the audio.

    The early part holds the direct sound and reflections that the ear takes for one with it: what a denoiser shall
    leave. It ends with a fade over its last quarter.

    Args:
        audio: dry.
        response: [taps], from the direct sound on.
        early: samples of the response, usually 50 ms.
    """
    fade = ((early - torch.arange(min(early, len(response)))) / (early / 4)).clamp(max=1)
    first = functional.pad(response[:early] * fade, (0, max(0, len(response) - early)))
    heard = convolve(audio, torch.stack([response, first]).reshape(2, *[1] * (audio.ndim - 1), -1))
    return heard[0], heard[1]


def _images(
    length: float, source: float, microphone: float, reflections: tuple[float, float], farthest: float
) -> tuple[Tensor, Tensor]:
    """Returns the distances and the factors [images] along one axis, of all images within `farthest`."""
    most = ceil(farthest / (2 * length)) + 1
    rooms = torch.arange(-most, most + 1, dtype=torch.float64)
    distances, factors = [], []
    for mirrored in (0, 1):
        distances.append((1 - 2 * mirrored) * source + 2 * rooms * length - microphone)
        factors.append(reflections[0] ** (rooms - mirrored).abs() * reflections[1] ** rooms.abs())
    distance, factor = torch.cat(distances), torch.cat(factors)
    near = distance.abs() < farthest
    return distance[near], factor[near]


def _low_pass() -> Tensor:
    """Returns a Hann-windowed sinc [2 * _FINE * _TAPS + 1] that cuts at half the rate after every _FINE-th sample."""
    time = torch.arange(-_FINE * _TAPS, _FINE * _TAPS + 1) / _FINE
    return torch.sinc(time) * (0.5 + 0.5 * torch.cos(pi * time / _TAPS))


def _direct(room: Shoebox, sample_rate: int) -> int:
    """Returns the sample in which the direct sound arrives."""
    squares = sum((a - b) ** 2 for a, b in zip(room.source, room.microphone, strict=True))
    return int(squares**0.5 / SPEED_OF_SOUND * sample_rate)
