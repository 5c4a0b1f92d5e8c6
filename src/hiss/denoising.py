"""Denoising as a stream: recordings of any length, rate and number of channels, piece by piece, at bounded memory."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from itertools import count
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hiss.conditioners.recording import Recording
from hiss.diffusion import sampling
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel, Told, divided
from hiss.noise import generators, normal
from hiss.representations.base import Coding
from hiss.signal.overlap import Windows
from hiss.signal.resampling import ResampleStream, resampling_delay
from hiss.types import Condition, Prompt, State

_TOGETHER = 4
"""Channels that a CPU cleans at once where it sees them for seconds: more would leave its caches."""

BLOCK = 8.0
"""Seconds of a recording that are worked on at once, at most."""


class DenoisingStream:
    """A recording without its noise, while it still comes in: push its pieces, then finish.

    All that comes out together is as long as all that went in, and aligned with it; how the recording is cut into
    pieces does not change it. Each channel is cleaned alone, so the channels may as well be recordings of their own,
    some of which end before others. What lies above half the sample rate of the model is lost. Silence stays silence.

    A causal model takes each frame of the spectrum once and keeps a state, so there are no seams, and the delay is one
    frame, with any number of steps. One that was trained to look ahead can do so, too; where it shall look ahead, it
    hears some seconds of what is to come before it cleans those before them. Any other model looks at long windows that
    overlap and pass into each other.
    """

    def __init__(
        self,
        model: AudioDiffusionModel,
        sample_rate: int,
        channels: int = 1,
        *,
        steps: int | None = None,
        keep_db: float | None = None,
        ahead: bool = False,
    ) -> None:
        """Opens the stream.

        Args:
            model: one that listens to recordings, in evaluation mode.
            sample_rate: Hz of what comes in and goes out.
            channels: how many there are.
            steps: sampler steps; the model's own choice, usually 1, where left out.
            keep_db: the noise is lowered by at most this many dB; where left out, by as much as the model can.
            ahead: also hear what comes later, if the model can: it cleans better, but only after a long window.

        Raises:
            UsageError: the model does not denoise, or an argument is out of range.
        """
        if not any(isinstance(part, Recording) for part in model.conditioners):
            raise UsageError("this model generates and cannot denoise; take one that was trained on noisy recordings")
        if sample_rate < 1 or channels < 1:
            raise UsageError(f"a stream needs a sample rate and channels, not {sample_rate} Hz and {channels} channels")
        if keep_db is not None and not keep_db >= 0:
            raise UsageError(f"keep_db must be 0 dB or more, not {keep_db}")
        steps = model.config.sampling.steps if steps is None else steps
        self.sample_rate, self.channels = sample_rate, channels
        self._rate = model.config.sample_rate
        self._kept = 0.0 if keep_db is None else 10 ** (-keep_db / 20)
        self._there = ResampleStream(sample_rate, self._rate, channels)
        self._back = ResampleStream(self._rate, sample_rate, channels)
        model.config.sampling.schedule.grid(steps)  # refuses steps that cannot be
        turns = steps if model.config.sampling.spin else 1
        shifts = [turn * model.representation.hop // turns for turn in range(turns)]
        coding = coding_by_frames(model)
        self._cleaner = _Spun(
            [_cleaner(model, steps // turns, channels, ahead=ahead) for _ in shifts], shifts, channels
        )
        self._delay = model.config.window if coding is None else coding.latency  # shifted frames begin earlier
        if coding is not None and ahead and model.denoiser.network.ahead:
            self._delay += (_window(model) - 1) * model.representation.hop
        self._waiting = torch.zeros(channels, 0)
        """What came in and has not come out yet."""
        self._pushed, self._heard, self._made = 0, 0, 0
        """How many samples came in, and how many of the model's it heard of them and made of that."""
        self._ends: list[int | None] = [None] * channels
        """At which of the model's samples each channel ended, if it did."""
        self._finished = False

    @cached_property
    def latency(self) -> float:
        """Seconds from a sample going in until it comes out, at most: the algorithmic delay.

        Another rate than the model's adds what resampling needs to look ahead, there and back.
        """
        pairs = ((self.sample_rate, self._rate), (self._rate, self.sample_rate))
        return self._delay / self._rate + sum(resampling_delay(*pair) for pair in pairs if pair[0] != pair[1])

    def push(self, samples: Tensor, *, lengths: Sequence[int] | None = None) -> Tensor:
        """Returns the clean samples [channels, samples], maybe none, that the next [channels, samples] complete.

        Args:
            samples: floating point in [-1, 1], of any precision and on any device; float32 on the CPU comes out,
                without a gradient.
            lengths: how many of them each channel has, where some end: all go on where left out. After its end, and in
                all later pieces, a channel is silence; it is cleaned as if it were alone, if the model takes each frame
                once (`coding_by_frames`).

        Raises:
            UsageError: the piece has other channels or whole numbers, a length is out of range, or the stream is
                finished.
            HissError: the piece holds NaN or infinity.
        """
        if self._finished:
            raise UsageError("this stream is finished; open another one for the next recording")
        if samples.ndim != 2 or len(samples) != self.channels:
            raise UsageError(f"this stream takes pieces [{self.channels}, samples], not {list(samples.shape)}")
        if not samples.is_floating_point():
            raise UsageError(
                f"this stream takes floating-point samples in [-1, 1], not {samples.dtype}; scale them first"
            )
        samples = samples.detach().to("cpu", torch.float32)
        if not bool(torch.isfinite(samples).all()):
            raise HissError("the recording holds NaN or infinite samples; export it again from its source")
        lengths = [samples.shape[1]] * self.channels if lengths is None else lengths
        if len(lengths) != self.channels or not all(0 <= length <= samples.shape[1] for length in lengths):
            raise UsageError(f"each channel of this piece has 0 to {samples.shape[1]} samples, not {list(lengths)}")
        for channel, length in enumerate(lengths):
            if self._ends[channel] is None and length < samples.shape[1]:
                self._ends[channel] = self._end(self._pushed + length)
        self._pushed += samples.shape[1]
        size = max(1, round(BLOCK * self.sample_rate))
        return torch.cat([self._cleaned(block) for block in samples.split(size, dim=1)], dim=1)

    def finish(self) -> Tensor:
        """Returns the rest of the clean recording [channels, samples]."""
        self._finished = True
        if not self._waiting.shape[1]:
            return self._waiting
        self._ends = [self._end(self._pushed) if end is None else end for end in self._ends]
        return self._cleaned(torch.zeros(self.channels, 0), last=True)

    @property
    def _silence(self) -> int:
        """Samples after the last: one of the model lasts up to so many, and rounding shall not cost the last one."""
        return 0 if self.sample_rate == self._rate else -(-self.sample_rate // self._rate)

    def _end(self, samples: int) -> int:
        """Returns how many of the model's samples a recording of so many becomes, which soxr rounds half up."""
        return (2 * (samples + self._silence) * self._rate + self.sample_rate) // (2 * self.sample_rate)

    def _ended(self, samples: Tensor, begin: int) -> Tensor:
        """Returns the model's samples [channels, samples] from `begin` on, silent where a channel has ended."""
        if self._ends == [None] * self.channels:
            return samples
        last = begin + samples.shape[1]
        ends = torch.tensor([last if end is None else end for end in self._ends])
        return samples * (torch.arange(begin, last) < ends[:, None])

    @torch.no_grad()
    def _cleaned(self, samples: Tensor, *, last: bool = False) -> Tensor:
        self._waiting = torch.cat([self._waiting, samples], dim=1)
        after = self._silence if last else 0
        heard = self._there.push(torch.cat([samples, samples.new_zeros(self.channels, after)], dim=1), last=last)
        heard = self._ended(heard, self._heard)
        self._heard += heard.shape[1]
        clean = self._ended(self._cleaner.push(heard, self._ends, last=last), self._made)
        self._made += clean.shape[1]
        clean = self._back.push(clean, last=last)[:, : self._waiting.shape[1]]
        noisy, waiting = self._waiting.tensor_split([clean.shape[1]], dim=1)
        self._waiting = waiting.clone()
        return torch.lerp(clean, noisy, self._kept) if self._kept else clean


class _Cleaner(Protocol):
    """What cleans [channels, samples] at the rate of the model, piece by piece; `ends` as of `DenoisingStream`."""

    def push(self, samples: Tensor, ends: Sequence[int | None], *, last: bool = False) -> Tensor: ...


class _Groups:
    """Cleaners of some channels each, one after the other."""

    def __init__(self, cleaners: Sequence[_Cleaner]) -> None:
        """Each is one for the next `_TOGETHER` channels, or for what is left of them."""
        self.cleaners = cleaners

    def push(self, samples: Tensor, ends: Sequence[int | None], *, last: bool = False) -> Tensor:
        own = [ends[first : first + _TOGETHER] for first in range(0, len(ends), _TOGETHER)]
        groups = zip(self.cleaners, samples.split(_TOGETHER), own, strict=True)
        return torch.cat([cleaner.push(group, some, last=last) for cleaner, group, some in groups])


class _Spun:
    """The mean of cleaners, each of which hears the recording later by a part of a frame than the one before.

    What a cleaner gets wrong depends on where its frames begin; in the mean such errors cancel. With a single cleaner
    it is that cleaner.
    Source: Coifman, Donoho 1995, "Translation-invariant de-noising", section 2 (cycle spinning).
    """

    def __init__(self, cleaners: Sequence[_Cleaner], shifts: Sequence[int], channels: int) -> None:
        """`shifts` are the samples by which each of them hears later."""
        self.cleaners, self.shifts = cleaners, shifts
        self._silence = [torch.zeros(channels, shift) for shift in shifts]
        """What each still has to hear before the recording."""
        self._early = list(shifts)
        """How many samples each still gives back of what came before the recording."""
        self._made = [torch.zeros(channels, 0)] * len(cleaners)
        """What each gave back that others have not yet."""

    def push(self, samples: Tensor, ends: Sequence[int | None], *, last: bool = False) -> Tensor:
        for number, (cleaner, shift) in enumerate(zip(self.cleaners, self.shifts, strict=True)):
            heard = torch.cat([self._silence[number], samples], dim=1)
            made = cleaner.push(heard, [None if end is None else end + shift for end in ends], last=last)
            early = min(self._early[number], made.shape[1])
            self._silence[number] = samples[:, :0]
            self._early[number] -= early
            self._made[number] = torch.cat([self._made[number], made[:, early:]], dim=1)
        ready = min(made.shape[1] for made in self._made)
        mean = torch.stack([made[:, :ready] for made in self._made]).mean(dim=0)
        self._made = [made[:, ready:].clone() for made in self._made]
        return mean


class _Frames:
    """A model that takes every frame once, as it comes, or if it looks ahead when those after it are there.

    The sampler walks each piece of frames from noise to a clean spectrum. The state of the network is kept for each
    evaluation within such a walk, so it is as if one walk went over all frames at once.
    """

    def __init__(self, model: AudioDiffusionModel, coding: Coding, steps: int, later: int | None) -> None:
        """`later` is how many frames after those that are cleaned a model sees that looks ahead."""
        self.model, self.coding, self.later = model, coding, later
        config = model.config.sampling
        self.walk = sampling.sampler(config.sampler)
        self.sigmas = config.schedule.grid(steps)
        self._waiting: Tensor | None = None
        """What came in and is not clean yet."""
        self._frames = 0
        self._level: State | None = None
        self._told: list[Told] = []
        """For each evaluation of a walk, what the network makes of its noise level, which all pieces share."""
        self._states: dict[int, State] = {}

    @torch.inference_mode()  # without it a stream of single frames takes a quarter longer
    def push(self, samples: Tensor, ends: Sequence[int | None], *, last: bool = False) -> Tensor:
        audio = samples[:, None].expand(-1, self.model.config.channels, -1)
        waiting = self.coding.encode(audio.to(self.model.device), last=last)
        if self._waiting is not None:
            waiting = torch.cat([self._waiting, waiting], dim=-1)
        clean = []
        size = _window(self.model) if self.later is not None else 1
        while waiting.shape[-1] >= size:
            piece = waiting if self.later is None else waiting[..., :size]
            clean.append(self._cleaned(piece, ends, self.later or 0))
            waiting = waiting[..., clean[-1].shape[-1] :]
        if last and waiting.shape[-1]:
            clean.append(self._cleaned(waiting, ends, 0))
            waiting = waiting[..., :0]
        self._waiting = waiting.clone()
        return self.coding.decode(torch.cat(clean, dim=-1), last=last).mean(dim=1).cpu() if clean else samples[:, :0]

    def _cleaned(self, encoded: Tensor, ends: Sequence[int | None], later: int) -> Tensor:
        """Returns the clean frames [batch, channels, *space] of the next noisy ones, without the last `later`."""
        batch, frames = len(encoded), encoded.shape[-1]
        now, own = frames - later, self._own(ends, frames)
        if (longest := max(own)) < frames:  # after the end of all there is silence, which needs no work
            begin = self._frames
            clean = encoded[..., :0]
            if longest:
                clean = self._cleaned(encoded[..., :longest], ends, max(0, longest - now))
            self._frames = begin + now
            return functional.pad(clean, (0, now - clean.shape[-1]))
        (recording,) = self.model.conditioners
        assert isinstance(recording, Recording)
        level, self._level = recording.running_level(encoded[..., :now], self._level)
        levels = level
        if later:
            levels = torch.cat([level, recording.running_level(encoded[..., now:], self._level)[0]], dim=-1)
        condition = Condition(signal=divided(encoded, levels))
        evaluations = count()
        seen = torch.tensor(own) if self.later is not None and min(own) < frames else None

        # A sampler treats all numbers alike and leaves it to `denoise` how they belong together. So here each frame is
        # an item of its own, with its own noise, which thus depends neither on the piece nor on the channel.
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            evaluation = next(evaluations)
            if evaluation == len(self._told):
                self._told.append(self.model.denoiser.told(sigma.to(x), condition, batch=batch))
            state = self._states.get(evaluation)
            joined = x.unflatten(0, (batch, frames)).movedim(1, -1)
            ahead = None if self.later is None else later
            told = self._told[evaluation]
            piece = self.model.denoiser.piece(joined, told, condition, state, ahead=ahead, ends=seen)
            estimate, self._states[evaluation] = piece
            return estimate.movedim(-1, 1).flatten(0, 1)

        generator = generators(0, [*range(self._frames, self._frames + frames)] * batch)
        self._frames += now
        noise = normal(encoded.movedim(-1, 1).flatten(0, 1), generator)
        clean = self.walk(denoise, float(self.sigmas[0]) * noise, self.sigmas, generator=generator)
        joined: Tensor = clean.unflatten(0, (batch, frames)).movedim(1, -1)[..., :now]
        heard = encoded[..., :now].flatten(1, -2).any(dim=1).reshape(level.shape)  # a frame of silence stays silence
        return joined * level * heard

    def _own(self, ends: Sequence[int | None], frames: int) -> list[int]:
        """Returns how many of the next frames are those of each recording."""
        shape = self.model.representation.shape
        return [frames if end is None else min(frames, max(0, shape(end)[-1] - self._frames)) for end in ends]


class _Whole:
    """A model that must see a recording as a whole: windows as long as it knows them, whatever ends within them."""

    def __init__(self, model: AudioDiffusionModel, steps: int) -> None:
        self.model, self.steps = model, steps
        size = model.config.window
        self._windows = Windows(self._cleaned, size=size, overlap=int(model.config.sampling.overlap * size))

    def push(self, samples: Tensor, ends: Sequence[int | None], *, last: bool = False) -> Tensor:
        del ends
        return self._windows.push(samples, last=last)

    def _cleaned(self, samples: Tensor) -> Tensor:
        prompts = [Prompt(recording=one[None]) for one in samples]
        generator = generators(0, [0] * len(prompts))
        made = self.model.sample(prompts, samples.shape[1], steps=self.steps, generator=generator)
        return made.mean(dim=1).cpu()


def coding_by_frames(model: AudioDiffusionModel) -> Coding | None:
    """Returns what encodes for a model that can take every frame once; None for one that cannot.

    It can if its network is framewise, it is told of nothing but the recording at a running level, and is not guided.
    """
    running = [isinstance(part, Recording) and part.config.memory is not None for part in model.conditioners]
    able = model.denoiser.network.framewise and running == [True] and model.config.sampling.guidance == 1
    return model.representation.coding() if able else None


def _window(model: AudioDiffusionModel) -> int:
    """Returns how many frames a model that looks ahead sees at once."""
    return max(1, model.config.window // model.representation.hop)


def _cleaner(model: AudioDiffusionModel, steps: int, channels: int, *, ahead: bool) -> _Cleaner:
    """Returns what cleans so many channels with a model: frame by frame where that is possible."""
    coding = coding_by_frames(model)
    if coding is None:
        return _Whole(model, steps)
    if not (ahead and model.denoiser.network.ahead):
        return _Frames(model, coding, steps, None)
    later = int(model.config.sampling.overlap * _window(model))
    if model.device.type != "cpu":
        return _Frames(model, coding, steps, later)
    groups = range(0, channels, _TOGETHER)
    return _Groups([_Frames(model, deepcopy(coding), steps, later) for _ in groups])
