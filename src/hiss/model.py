"""The model: a representation, a network, conditioners, schedules and a parameterization, composed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.conditioners import Conditioner, merge, stack
from hiss.conditioners.recording import Recording
from hiss.conditioners.words import Words
from hiss.config import ModelConfig, SamplingConfig
from hiss.diffusion import editing, sampling
from hiss.diffusion.guidance import guide, pair, steer
from hiss.diffusion.parameterizations import PARAMETERIZATIONS, Scalings, estimate, expand
from hiss.diffusion.weightings import WEIGHTINGS, Uncertainty
from hiss.errors import UsageError
from hiss.networks import Ports
from hiss.networks.base import Network
from hiss.networks.layers import blind
from hiss.noise import normal
from hiss.representations import Representation
from hiss.representations.ring import Ring
from hiss.types import Batch, Condition, Denoise, Generator, Precision, Prompt, State, Watch


@dataclass(frozen=True)
class Edit:
    """A recording that sampling starts from or keeps a part of."""

    audio: Tensor
    """[batch or 1, audio_channels, samples]."""
    strength: float = 1.0
    """How much noise it is given, in (0, 1]: 1 forgets it where `keep` does not hold it."""
    keep: Tensor | None = None
    """[samples] in [0, 1]: 1 where it stays as it is, 0 where it is made anew."""


class Told(NamedTuple):
    """What a denoiser makes of a noise level and of the vector of a condition, which are those of all pieces."""

    scalings: Scalings
    """How the parameterization mixes, each without dimension, as the noise level is."""
    layers: State
    """What `Network.told` returned."""


class Denoiser(nn.Module):
    """D(x, sigma, condition): a network inside a parameterization; returns the expected clean x."""

    def __init__(self, network: Network, parameterization: str) -> None:
        super().__init__()
        self.network = network
        self.scalings = PARAMETERIZATIONS[parameterization]
        self.precision: Precision = "no"

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Returns the estimate [batch, channels, *space] of the clean signal in x = clean + sigma * noise.

        `sigma` has no dimension or is [batch].
        """
        scalings = self.scalings(sigma.to(x))
        with self._autocast(x.device):
            output = self.network(expand(scalings.scale, x) * x, scalings.noise.expand(x.shape[0]), condition)
        return estimate(scalings, x, output.to(x))

    def told(self, sigma: Tensor, condition: Condition, *, batch: int) -> Told:
        """Returns what `piece` is told of one noise level, sigma without dimension, for a batch of recordings.

        Raises:
            UsageError: the network is not framewise.
        """
        scalings = self.scalings(sigma)
        with self._autocast(sigma.device):
            return Told(scalings, self.network.told(scalings.noise.expand(batch), condition))

    def piece(
        self,
        x: Tensor,
        told: Told,
        condition: Condition,
        state: State | None = None,
        *,
        ahead: int | None = None,
        ends: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Returns the estimate [batch, channels, *space] for the next frames x, and the state for those after.

        `ahead` and `ends` are those of `Network.piece`.

        Raises:
            UsageError: the network is not framewise (`Network.piece`).
        """
        scaled = expand(told.scalings.scale, x) * x
        with self._autocast(x.device):
            output, state = self.network.piece(scaled, told.layers, condition, state, ahead=ahead, ends=ends)
        return estimate(told.scalings, x, output.to(x)), state

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self.precision == "no":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)


class AudioDiffusionModel(nn.Module):
    """A complete diffusion model of audio: the loss it is trained by and the way it is sampled."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.representation = config.representation.build(config.sample_rate, config.channels)
        conditioners = [conditioner.build() for conditioner in config.conditioners]
        self.conditioners = nn.ModuleList(conditioners)
        ports = Ports(
            channels=self.representation.channels,
            dims=self.representation.dims,
            vector=sum(conditioner.vector for conditioner in conditioners),
            tokens=max((conditioner.tokens for conditioner in conditioners), default=0),
            signal=sum(conditioner.signal for conditioner in conditioners) * self.representation.channels,
            bins=self.representation.shape(config.samples)[1] if self.representation.dims == 2 else 0,
        )
        self.denoiser = Denoiser(config.network.build(ports), config.parameterization)
        self.sample_by(config.sampling)
        self.uncertainty = Uncertainty() if config.uncertainty else None

    def sample_by(self, sampling: SamplingConfig) -> None:
        """Makes other choices the defaults of how this model is sampled.

        Raises:
            UsageError: they do not fit the network.
        """
        if sampling.against == "attention" and not self.denoiser.network.attends:
            raise UsageError("sampling.against attention needs a network with self-attention, such as a unet or dit")
        self.config = replace(self.config, sampling=sampling)

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def condition(self, prompts: Sequence[Prompt], samples: int) -> tuple[Condition, Tensor]:
        """Returns what all conditioners together say to a batch of prompts for audio of that length, and a level.

        The level [batch, 1, ..., frames or 1] is that of the recordings in the prompts, if the model listens to any,
        and else 1. Whatever is encoded is divided by it before the network sees it, the signal of the condition
        already is; what comes out is multiplied by it. So nothing depends on how loud a recording is.
        """
        return self._told([prompts] * len(self.conditioners), samples, self.representation)

    def compute_loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> Tensor:
        """Returns the mean weighted squared error of the clean estimate at random noise levels, without dimension.

        The auxiliary losses of the config are added to it.
        Source: Karras et al. 2022, equation 8; with `uncertainty`, Karras et al. 2024, equation 15; for `own_estimates`
        Lay et al. 2024, "Single and few-step diffusion for generative speech enhancement", section 3.
        """
        condition, level = self._told(self._withheld(batch, generator), batch.audio.shape[-1], self.representation)
        encoded = batch.encoded
        if encoded is None:
            encoded = self.representation.encode(batch.audio.to(self.device))
        clean = divided(encoded.to(self.device, torch.float32), level)
        sigma = self.config.training.sample(len(clean), device=clean.device, generator=generator)
        start = self._start(clean, condition, generator)
        x = start + expand(sigma, clean) * normal(clean, generator)
        estimated = self.denoiser(x, sigma, condition)
        error = (estimated - clean).square().flatten(1).mean(dim=1)
        loss: Tensor = WEIGHTINGS[self.config.weighting](sigma) * error
        if self.uncertainty is not None:
            loss = self.uncertainty(loss, sigma)
        return (loss + self._auxiliary(estimated, clean, level, sigma)).mean()

    def _start(self, clean: Tensor, condition: Condition, generator: torch.Generator | None) -> Tensor:
        """Returns the clean signal, in the first rows replaced by the first estimate of sampling, without gradient."""
        own = slice(0, round(self.config.own_estimates * len(clean)))
        if not own.stop:
            return clean
        sigma = self.config.sampling.schedule.grid(1)[0].to(clean)
        # Not under no_grad: autocast would keep the weights that it converts there, and they would get no gradient.
        estimated = self.denoiser(sigma * normal(clean[own], generator), sigma, condition.rows(own)).detach()
        return torch.cat([estimated, clean[own.stop :]])

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        *,
        negative: Sequence[Prompt] | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        temperature: float = 1.0,
        generator: Generator | None = None,
        edit: Edit | None = None,
        loop: bool = False,
        watch: Watch | None = None,
    ) -> Tensor:
        """Returns audio [batch, audio_channels, samples], one item per prompt.

        Args:
            prompts: what to make; `Prompt()` for anything.
            samples: length of the result, any.
            negative: what to stay away from, one per prompt; only with guidance above 1.
            steps: sampler steps; like `sampler` and `guidance` the model's own choice where left out.
            sampler: a name out of `hiss.diffusion.sampling.SAMPLERS`.
            guidance: scale of classifier-free guidance.
            temperature: multiplies the standard deviation of all noise that is drawn.
            generator: where that noise comes from.
            edit: a recording to vary or to keep a part of.
            loop: make the end lead seamlessly back to the start.
            watch: called after each step.

        Raises:
            UsageError: a name is unknown or a number out of range.
        """
        best = self.config.sampling
        walk = sampling.sampler(sampler or best.sampler, temperature=temperature)
        start = None if edit is None or edit.strength == 1 else best.schedule.level(edit.strength)
        sigmas = best.schedule.grid(best.steps if steps is None else steps, start=start)
        scale = best.guidance if guidance is None else guidance
        representation = Ring(self.representation, samples) if loop else self.representation
        if negative is not None and best.against == "attention":
            raise UsageError("this model is guided away from its own blind attention: leave the negative prompt out")
        against = [Prompt()] * len(prompts) if negative is None else negative
        wanted, level = self._told([prompts] * len(self.conditioners), samples, representation)
        unwanted, _ = self._told([against] * len(self.conditioners), samples, representation)
        denoise = self._denoise(samples, wanted, unwanted, scale, loop)

        shape = (len(prompts), *representation.shape(samples))
        known = torch.zeros(shape, device=self.device)
        if edit is not None:
            known = divided(representation.encode(edit.audio.to(self.device)).expand(shape), level)
            if edit.keep is not None:
                kept = representation.kept(edit.keep).to(known)
                denoise = editing.inpaint(denoise, known, kept)
                known = known * kept  # the highest noise would not quite hide what is made anew
            elif edit.strength == 1:
                known = torch.zeros_like(known)
        x = editing.start_from(known, temperature * float(sigmas[0]), generator=generator)
        x = walk(denoise, x, sigmas, generator=generator, watch=watch)
        audio = torch.cat([representation.decode(part) for part in (x * level).split(self._together(x))])[..., :samples]
        if edit is not None and edit.keep is not None:
            # The representation may smear over an edge; what is kept stays as it was, sample by sample.
            audio = torch.lerp(audio, edit.audio.to(audio).expand_as(audio), edit.keep.to(audio).expand_as(audio))
        return audio

    def _denoise(self, samples: int, wanted: Condition, unwanted: Condition, scale: float, loop: bool) -> Denoise:
        """Returns D for audio of that length: guided, and in windows where it is longer than one."""
        size = self.representation.shape(self.config.window)[-1]

        def guided(wanted: Condition, unwanted: Condition) -> Denoise:
            def both(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
                first, second = self._estimates(x, sigma, [wanted, unwanted])
                return first, second

            def plain(x: Tensor, sigma: Tensor) -> Tensor:
                return self._estimates(x, sigma, [wanted])[0]

            def unseeing(x: Tensor, sigma: Tensor) -> Tensor:
                with blind():
                    return plain(x, sigma)

            best = self.config.sampling
            pairs = both if best.against == "prompt" else pair(plain, unseeing)
            able = bool(self.conditioners) or best.against == "attention"
            denoise = guide(pairs, plain, scale if able else 1.0, interval=best.interval, rescale=best.rescale)
            return self._steered(denoise, wanted.aim)

        if samples <= self.config.window and not loop:
            return guided(wanted, unwanted)

        def rows(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
            cut = [_rows(condition, items, starts, x.shape[-1]) for condition in (wanted, unwanted)]
            return guided(*cut)(x, sigma)

        joined = editing.windows(rows, size, overlap=int(self.config.sampling.overlap * size), loop=loop)
        above = self.config.sampling.steady
        return joined if above is None else editing.steady(joined, size, above=above, loop=loop)

    def _steered(self, denoise: Denoise, aim: Tensor | None) -> Denoise:
        """Returns a denoiser that is steered to an aim, if the model is sampled so."""
        best = self.config.sampling
        if aim is None or not best.steer:
            return denoise
        (words,) = (conditioner for conditioner in self.conditioners if isinstance(conditioner, Words))

        def gradient(x: Tensor, sigma: Tensor) -> Tensor:
            size = self._together(x)
            parts = zip(x.split(size), aim.split(size), strict=True)
            return torch.cat([words.gradient(part, sigma, theirs) for part, theirs in parts])

        return steer(denoise, gradient, best.steer, interval=best.steered)

    def _estimates(self, x: Tensor, sigma: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        """Returns the clean estimate of x under each of the conditions."""
        size = self._together(x)
        found = []
        for first in range(0, len(x), size):
            items = slice(first, first + size)
            level = sigma[items] if sigma.ndim else sigma.expand(len(x[items]))
            condition = stack([one.rows(items) for one in conditions])
            together = self.denoiser(torch.cat([x[items]] * len(conditions)), level.repeat(len(conditions)), condition)
            found.append(together.chunk(len(conditions)))
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _together(self, batch: Tensor) -> int:
        """Returns how many items of a batch are computed at once.

        When sampling on the CPU, one: kernels there choose the order of their sums by the batch size, and a seed shall
        mean the same sound, to the bit, alone and in a crowd.
        """
        return 1 if self.device.type == "cpu" and not torch.is_grad_enabled() else max(1, len(batch))

    def _told(
        self, prompts: Sequence[Sequence[Prompt]], samples: int, representation: Representation | Ring
    ) -> tuple[Condition, Tensor]:
        """Returns the condition and the level of prompts, one list of them for each conditioner."""
        conditions, level = [], torch.ones(1, device=self.device)
        for conditioner, own in zip(self.conditioners, prompts, strict=True):
            condition: Condition = conditioner(own)
            if condition.signal is not None:
                audio, places = condition.signal, None
                if conditioner.repeats:  # and many prompts have the same signal
                    audio, places = audio.unique(dim=0, return_inverse=True)
                    audio = audio.repeat(1, 1, -(-samples // audio.shape[-1]))
                audio = functional.pad(audio, (0, samples - audio.shape[-1])).expand(-1, self.config.channels, -1)
                signal = torch.cat([representation.encode(part) for part in audio.split(self._together(audio))])
                condition = replace(condition, signal=signal if places is None else signal[places])
            if isinstance(conditioner, Recording) and condition.signal is not None:
                level = conditioner.level(own, condition.signal)
            conditions.append(condition)
        told = merge(conditions)
        return (told if told.signal is None else replace(told, signal=divided(told.signal, level))), level

    def _withheld(self, batch: Batch, generator: torch.Generator | None) -> list[list[Prompt]]:
        """Returns training prompts for each conditioner, some of them emptied for all or for that one."""
        count = len(batch.prompts)
        everything = torch.rand(count, generator=generator) < self.config.prompt_dropout
        lists = []
        for conditioner in self.conditioners:
            assert isinstance(conditioner, Conditioner)
            hidden = everything | (torch.rand(count, generator=generator) < conditioner.config.dropout)
            own = conditioner.listen(batch, generator)
            lists.append([Prompt() if hide else prompt for prompt, hide in zip(own, hidden.tolist(), strict=True)])
        return lists

    def _auxiliary(self, estimated: Tensor, clean: Tensor, level: Tensor, sigma: Tensor) -> Tensor:
        """Returns the sum [batch] of the auxiliary losses."""
        pairs = {"encoded": (estimated, clean)}
        if any(term.on == "audio" for term in self.config.losses):
            # A level that changes with time is part of the sound, its mean is not.
            shape = divided(level, level.square().mean(dim=-1, keepdim=True).sqrt())
            decode = self.representation.decode
            pairs["audio"] = decode(estimated.float() * shape), decode(clean * shape)
        total = torch.zeros_like(sigma)
        for term in self.config.losses:
            total = total + term(*pairs[term.on], sigma)
        return total


def divided(x: Tensor, level: Tensor) -> Tensor:
    """Returns x / level; where the level is 0, x."""
    return x / torch.where(level > 0, level, 1.0)


def _rows(condition: Condition, items: Tensor, starts: Tensor, size: int) -> Condition:
    """Returns the condition of windows: row k belongs to item items[k] and begins at starts[k]."""
    signal = None if condition.signal is None else editing.cut(condition.signal, items, starts, size)
    return replace(condition.rows(items), signal=signal)
