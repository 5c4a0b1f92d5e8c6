"""Noises made by computation: each [channels, samples], with a root mean square of 1."""

from collections.abc import Callable
from math import log2, pi

import torch
from torch import Tensor
from torch.nn import functional

LOWEST = 20.0
"""Hz, below which coloured noise has nothing: it is not heard, and would take the level from what is."""

_TABLE = 8192
"""Points of one period of a tone; lines between them are 80 dB more exact than the 30th harmonic is loud."""

Noise = Callable[[int, int, int, torch.Generator], Tensor]
"""(channels, samples, sample rate in Hz, generator) -> noise [channels, samples] of a kind drawn at random."""


def white(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns white Gaussian noise; of one sample, that is 1 or -1."""
    del sample_rate
    return _unit(torch.randn(channels, samples, generator=generator))


def coloured(channels: int, samples: int, sample_rate: int, generator: torch.Generator, *, slope: float) -> Tensor:
    """Returns Gaussian noise whose power changes by `slope` dB an octave: pink -3.01, brown -6.02, white 0."""
    return _spectral(
        channels, samples, sample_rate, generator, lambda hz: (slope / 20) * torch.log2(hz.clamp(min=LOWEST))
    )


def tinted(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns Gaussian noise of any colour: -9 to 3 dB an octave, and a random bump or dip in each octave."""
    slope = -9 + 12 * _uniform(generator)
    bumps = curve(generator, deviation=8.0, sample_rate=sample_rate)
    return _spectral(
        channels,
        samples,
        sample_rate,
        generator,
        lambda hz: (slope * torch.log2(hz.clamp(min=LOWEST)) + bumps(hz)) / 20,
    )


def gusts(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns tinted noise that swells and fades: 0.5 to 12 times a second, by 3 to 15 dB."""
    noise = tinted(channels, samples, sample_rate, generator)
    speed, depth = 0.5 * 24 ** _uniform(generator), 3 + 12 * _uniform(generator)
    swell = depth * _wander(samples, 2 * speed * samples / sample_rate, generator)
    return _unit(noise * 10 ** (swell / 20))


def hum(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns a tone with up to 30 harmonics.

    Half the time its pitch is that of the mains, 50 or 60 Hz, else one of 30 to 400 Hz, which wanders half the time, as
    that of an engine does. Harmonic k is k^-a times as strong as the fundamental, a in [0.3, 2], with a random factor
    of its own; a trace of noise lies below, as in a fan or a motor.
    """
    mains, choice, place, fall = torch.rand(4, generator=generator).tolist()
    pitch = (50.0 if choice < 0.5 else 60.0) if mains < 0.5 else 30 * (400 / 30) ** place
    count = max(1, min(30, int(0.49 * sample_rate / pitch)))
    order = torch.arange(1, count + 1)
    strengths = order ** -(0.3 + 1.7 * fall) * torch.rand(count, generator=generator)
    phases = torch.rand(count, generator=generator)
    place = torch.arange(_TABLE + 1) / _TABLE
    period = strengths @ torch.sin(2 * pi * (order[:, None] * place + phases[:, None]))
    hertz = torch.full((samples,), pitch, dtype=torch.float64)
    if mains >= 0.75:
        hertz *= (0.15 * _wander(samples, 2 * samples / sample_rate, generator)).exp2()
    turns = ((hertz.cumsum(0) - hertz) / sample_rate).frac() * _TABLE
    below = turns.long()
    tone = torch.lerp(period[below], period[below + 1], (turns - below).float())
    floor = 10 ** (-(1 + 2 * _uniform(generator))) * tinted(channels, samples, sample_rate, generator)
    return _unit(_unit(tone[None]) + floor)


def clicks(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns clicks, knocks or crackle: 1 to 300 a second, all with one decaying sound.

    Half the time they come at random and are of random strength; else at a pace that wanders a little and of nearly
    the same strength, as those of wheels, motors and clocks. The sound is noise, or a resonance at 300 Hz to 6 kHz, and
    falls to 1/e in 0.2 to 20 ms.
    """
    often, regular, tonal, pitch, fall = torch.rand(5, generator=generator).tolist()
    count = max(1, round(300**often * samples / sample_rate))
    strengths = torch.randn(channels, count, generator=generator)
    if regular < 0.5:
        pace = (0.3 * _wander(count, samples / sample_rate, generator)).exp2()
        passed = (pace * (1 + 0.03 * torch.randn(channels, count, generator=generator)).clamp(min=0.1)).cumsum(dim=1)
        places = (passed / passed[:, -1:] * samples).long().clamp(max=samples - 1)
        strengths = 1 + 0.3 * strengths
    else:
        places = torch.randint(samples, (channels, count), generator=generator)
        strengths = strengths * torch.randn(channels, count, generator=generator)
    hits = torch.zeros(channels, samples).scatter_add_(1, places, strengths)
    decay = 2e-4 * 100**fall * sample_rate
    time = torch.arange(max(1, min(samples, round(6 * decay))))
    sound = torch.exp(-time / decay)
    if tonal < 0.5:
        hz = min(300 * 20**pitch, 0.45 * sample_rate)
        sound = sound * torch.cos(2 * pi * hz / sample_rate * time)
    else:
        sound = sound * torch.randn(len(time), generator=generator)
    return _unit(convolve(hits, sound))


def thumps(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns thuds over faint noise, as of hands on a microphone, steps, doors and knocks on a table.

    One to eight a second come at random, of random strength. Each is noise that falls by 12 dB an octave from a pitch
    of 60 to 600 Hz on; it swells in 2 to 20 ms, and fades to 1/e in 20 to 200 ms. Tinted noise lies 0 to 40 dB below.
    """
    often, pitch, swell, fall, below = torch.rand(5, generator=generator).tolist()
    edge = 60 * 10**pitch
    rumble = _spectral(
        channels, samples, sample_rate, generator, lambda hz: -0.6 * torch.log2((hz / edge).clamp(min=1))
    )
    count = max(1, round(8**often * samples / sample_rate))
    strengths = torch.randn(channels, count, generator=generator).exp()
    places = torch.randint(samples, (channels, count), generator=generator)
    hits = torch.zeros(channels, samples).scatter_add_(1, places, strengths)
    rise, decay = (length * sample_rate for length in (2e-3 * 10**swell, 20e-3 * 10**fall))
    time = torch.arange(max(2, min(samples, round(6 * decay))))
    thuds = rumble * convolve(hits, torch.exp(-time / decay) - torch.exp(-time / decay - time / rise))
    return _unit(_unit(thuds) + 10 ** (-2 * below) * tinted(channels, samples, sample_rate, generator))


def beeps(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns tones that come and go, as of alarms, telephones, birds and machines: steps or glides of pitch.

    The pitch lies between 200 Hz and 6 kHz and changes after 30 to 500 ms by up to an octave; some tones are silent.
    Half the time they have overtones, as those of animals, horns and brakes: harmonic k is k^-a times as strong, a in
    [0.5, 2].
    """
    base, often, glide, share, pure, fall = torch.rand(6, generator=generator).tolist()
    count = max(2, round(samples / sample_rate / (0.03 * (0.5 / 0.03) ** often))) + 1
    octaves = log2(200) + base * log2(30) + torch.rand(1, 1, count, generator=generator) - 0.5
    sounding = (torch.rand(1, 1, count, generator=generator) < 0.4 + 0.6 * share).float()
    if not sounding.any():
        sounding[..., 0] = 1
    mode = "linear" if glide < 0.5 else "nearest"
    pitch = functional.interpolate(octaves, samples, mode=mode)[0].exp2().clamp(max=0.45 * sample_rate)
    turns = (pitch.double() / sample_rate).cumsum(dim=1)
    tone = torch.zeros(1, samples)
    for order in range(1, 2 if pure < 0.5 else 9):
        heard = order * pitch < 0.49 * sample_rate
        tone += order ** -(0.5 + 1.5 * fall) * heard * torch.sin(2 * pi * (order * turns).frac().float())
    # Edges of 5 ms, so that a tone does not begin with a click.
    width = max(1, round(0.005 * sample_rate))
    gate = functional.interpolate(sounding, samples)
    gate = functional.avg_pool1d(functional.pad(gate, (width // 2, width - 1 - width // 2)), width, 1)
    return _unit((tone * gate[0]).expand(channels, -1))


def offset(channels: int, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Returns what nobody hears and cheap microphones add: 1 or -1, always.

    Slow drifts are left alone: many recordings that count as clean have some.
    """
    return torch.full((channels, samples), 1.0 if _uniform(generator) < 0.5 else -1.0)


NOISES: dict[str, Noise] = {
    "white": white,
    "tinted": tinted,
    "gusts": gusts,
    "hum": hum,
    "clicks": clicks,
    "thumps": thumps,
    "beeps": beeps,
    "offset": offset,
}
"""The kinds of noise that can be drawn."""


def babble(voices: Tensor, generator: torch.Generator) -> Tensor:
    """Returns what [channels, samples] several voices [voices, channels, samples] make together.

    Each is brought to the same level but for a normal deviation of 4 dB, begins elsewhere, and runs backwards half the
    time, so that nothing can be understood. Silent voices stay silent.
    """
    draws = torch.rand(len(voices), 2, generator=generator)
    gains = 10 ** (4 * torch.randn(len(voices), generator=generator) / 20)
    crowd = torch.zeros_like(voices[0])
    for voice, gain, (place, turn) in zip(voices, gains, draws.tolist(), strict=True):
        moved = _unit(voice).roll(int(place * voice.shape[-1]), dims=-1)
        crowd += gain * (moved.flip(-1) if turn < 0.5 else moved)
    return _unit(crowd)


def curve(generator: torch.Generator, *, deviation: float, sample_rate: int) -> Callable[[Tensor], Tensor]:
    """Returns a function from Hz [bins] to dB [bins]: normal deviations at octaves from 50 Hz on, and lines between.

    The octaves are those below half of `sample_rate`; outside them the last value goes on.
    """
    octaves = max(2, int(log2(sample_rate / 2 / 50)) + 1)
    knots = deviation * torch.randn(octaves, generator=generator)

    def decibels(hz: Tensor) -> Tensor:
        place = torch.log2(hz.clamp(min=50) / 50).clamp(max=octaves - 1)
        below = place.floor().long().clamp(max=octaves - 2)
        return torch.lerp(knots[below], knots[below + 1], place - below)

    return decibels


def convolve(audio: Tensor, response: Tensor) -> Tensor:
    """Returns audio [..., samples] filtered by a response [..., taps], cut to the length of the audio."""
    samples = audio.shape[-1]
    length = smooth_length(samples + response.shape[-1] - 1)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(audio, length) * torch.fft.rfft(response, length), length)
    return filtered[..., :samples]


def smooth_length(samples: int) -> int:
    """Returns the least length of at least `samples` that a fast Fourier transform is quick at: 2^n times 1, 3 or 5."""
    power = 1 << max(samples - 1, 1).bit_length()
    return min(length for length in (power, power * 3 // 4, power * 5 // 8) if length >= samples)


def _spectral(
    channels: int,
    samples: int,
    sample_rate: int,
    generator: torch.Generator,
    exponent: Callable[[Tensor], Tensor],
) -> Tensor:
    """Returns Gaussian noise with magnitudes 10^exponent(hz)."""
    length = smooth_length(samples + sample_rate // 50)
    hz = torch.fft.rfftfreq(length, 1 / sample_rate)
    spectrum = torch.randn(channels, len(hz), 2, generator=generator)
    gains = torch.where(hz < min(LOWEST, sample_rate / 4), 0.0, 10 ** exponent(hz))
    shaped = torch.view_as_complex(spectrum) * (gains / gains.amax())
    return _unit(torch.fft.irfft(shaped, length)[:, :samples])


def _wander(points: int, turns: float, generator: torch.Generator) -> Tensor:
    """Returns a curve [points] through normal deviations, at least two, with `turns` straight lines between them."""
    knots = torch.randn(1, 1, max(2, round(turns) + 1), generator=generator)
    return functional.interpolate(knots, points, mode="linear", align_corners=True)[0, 0]


def _unit(noise: Tensor) -> Tensor:
    """Returns the noise at a root mean square of 1 over all channels; silence stays silence."""
    level = noise.square().mean().sqrt()
    return noise / level if level > 0 else noise


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
