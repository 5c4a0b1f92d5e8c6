"""What a user calls: load a model, generate, edit, denoise, save."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, overload

import torch
from torch import Tensor

from hiss import prompting
from hiss.audio import Audio
from hiss.conditioners import Conditioner
from hiss.conditioners.recording import Recording
from hiss.conditioners.text import Text
from hiss.denoising import BLOCK, DenoisingStream
from hiss.errors import UsageError, unknown
from hiss.generation import Span, check, edit_asked, overall, samples_asked, spans_of
from hiss.lora import Lora
from hiss.model import AudioDiffusionModel
from hiss.noise import seeded
from hiss.prompting import Ask
from hiss.rounding import Bits
from hiss.saved import read_model, read_part, write_model
from hiss.signal.resampling import resample_period
from hiss.types import Precision, Prompt, Watch


def bundled() -> list[str]:
    """Returns the names of the models that come with the package."""
    return sorted(config.parent.name for config in _shelf().glob("*/config.json"))


def folder_of(name_or_folder: str | Path) -> Path:
    """Returns the folder of a bundled model, or the one that is named.

    Raises:
        UsageError: there is no such model; the sentence lists those that come with the package.
    """
    if str(name_or_folder) in bundled():
        return _shelf() / str(name_or_folder)
    if not Path(name_or_folder).is_dir():
        raise unknown("model", str(name_or_folder), [*bundled(), "the path of a model folder"])
    return Path(name_or_folder)


def load(
    name_or_folder: str | Path,
    *,
    device: str | torch.device | None = None,
    precision: Precision = "no",
    sampling: Mapping[str, Any] | None = None,
) -> "Pipeline":
    """Returns a ready pipeline: a bundled model by name, or the model saved in a folder.

    See `Pipeline.from_pretrained`.
    """
    return Pipeline.from_pretrained(name_or_folder, device=device, precision=precision, sampling=sampling)


class Pipeline:
    """A model, ready for use."""

    def __init__(self, model: AudioDiffusionModel, *, card: str = "") -> None:
        self.model = model.eval()
        self.card = card
        """The model card, in Markdown."""
        self._adapted: list[Lora] = []

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "no",
        sampling: Mapping[str, Any] | None = None,
    ) -> "Pipeline":
        """Returns the pipeline of a bundled model or of a folder that `save_pretrained` wrote.

        Args:
            name_or_folder: which model.
            device: the CPU unless one is named, such as "cuda" or "mps".
            precision: with "bf16" or "fp16" the network computes in 16 bits where that does no harm (autocast), which
                is faster on GPUs; all else, and its weights, stay float32.
            sampling: what to change of how the model is sampled where a call does not say: keys of
                `hiss.config.SamplingConfig`, such as {"rescale": 0.7, "interval": (0.3, 5)}.

        Raises:
            UsageError: there is no such model, and the sentence lists those that come with the package; or there is no
                such precision, device or key, or a value does not fit.
            HissError: the folder is damaged, of another format, or of a newer version.
        """
        if precision not in get_args(Precision):
            raise unknown("precision", precision, get_args(Precision))
        model, card = read_model(folder_of(name_or_folder))
        model.denoiser.precision = precision
        if sampling:
            model.sample_by(model.config.sampling.changed(sampling))
        try:
            return cls(model.to(device or "cpu"), card=card)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"the device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error

    def save_pretrained(self, folder: str | Path, *, bits: Bits | None = None) -> None:
        """Writes config.json, model.safetensors and, where there is one, the card as README.md, whole or not at all.

        `bits` of each number are stored: 32, 16, or 8 in a quarter of the space of 32; where left out, as it is.
        """
        write_model(self.model, Path(folder), card=self.card, bits=bits)

    def adapt(self, folder: str | Path, *, strength: float = 1.0) -> "Pipeline":
        """Returns this pipeline with the LoRA in a folder, which a training with `lora` made, merged into its weights.

        `unadapt` takes it out again. Of several, each is added to those before.

        Args:
            folder: where the LoRA is.
            strength: what it adds is multiplied by this: 1 is as it was trained, 0.5 half as much of what it learned.

        Raises:
            HissError: the folder holds no LoRA, or it is damaged.
            UsageError: it was made for another network, or the strength is no number.
        """
        if not math.isfinite(strength):
            raise UsageError(f"the strength of a LoRA is a number, not {strength}")
        lora = read_part(Path(folder), "lora")
        assert isinstance(lora, Lora)
        network = self.model.denoiser.network
        lora.scale(strength)
        lora.attach(network)
        lora.merge(network)
        self._adapted.append(lora)
        return self

    def unadapt(self) -> "Pipeline":
        """Returns this pipeline without all that `adapt` merged: its weights are as they were, to the bit."""
        while self._adapted:
            self._adapted.pop().unload(self.model.denoiser.network)
        return self

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The classes that a prompt may name, by label field; empty for a model without labels."""
        return prompting.classes(self._conditioners)

    @property
    def _conditioners(self) -> list[Conditioner]:
        return [part for part in self.model.conditioners if isinstance(part, Conditioner)]

    @overload
    def generate(
        self,
        prompt: Ask | Audio | None = None,
        *,
        count: None = None,
        length: float | None = None,
        sample_rate: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        negative: Ask | None = None,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
        init: Audio | None = None,
        strength: float = 0.5,
        continue_from: Audio | None = None,
        inpaint: Audio | None = None,
        span: Span | Sequence[Span] | None = None,
        loop: bool = False,
        candidates: int | None = None,
        batch_size: int = 8,
        watch: Watch | None = None,
        each: Callable[[Audio], None] | None = None,
    ) -> Audio: ...

    @overload
    def generate(
        self,
        prompt: Ask | Audio | Sequence[Ask] | None = None,
        *,
        count: int,
        length: float | None = None,
        sample_rate: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        negative: Ask | None = None,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
        init: Audio | None = None,
        strength: float = 0.5,
        continue_from: Audio | None = None,
        inpaint: Audio | None = None,
        span: Span | Sequence[Span] | None = None,
        loop: bool = False,
        candidates: int | None = None,
        batch_size: int = 8,
        watch: Watch | None = None,
        each: Callable[[Audio], None] | None = None,
    ) -> list[Audio]: ...

    def generate(
        self,
        prompt: Ask | Audio | Sequence[Ask] | None = None,
        *,
        count: int | None = None,
        length: float | None = None,
        sample_rate: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        negative: Ask | None = None,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
        init: Audio | None = None,
        strength: float = 0.5,
        continue_from: Audio | None = None,
        inpaint: Audio | None = None,
        span: Span | Sequence[Span] | None = None,
        loop: bool = False,
        candidates: int | None = None,
        batch_size: int = 8,
        watch: Watch | None = None,
        each: Callable[[Audio], None] | None = None,
    ) -> Audio | list[Audio]:
        """Returns new audio: one recording, or with `count` a list of them, `count` for each prompt.

        Item k depends on the seed and on k alone: batch size and device do not change it. A sound that would pass full
        scale is turned down to a peak of -1 dBFS, unless it holds a part of a recording, whose level then stays.

        Args:
            prompt: what to make; nothing for anything. A recording means `init`. With `count`, also several prompts.
            count: how many.
            length: seconds, any; the length that the model was trained on, or that of the recording, where left out.
            sample_rate: Hz of the result; the model's own where left out.
            steps: sampler steps; like `sampler` and `guidance` the model's own choice where left out.
            sampler: a name out of `hiss.diffusion.sampling.SAMPLERS`.
            guidance: how strictly to follow the prompt; 1 is as trained.
            negative: what to stay away from; only with guidance above 1.
            temperature: multiplies the standard deviation of all noise: below 1 is more typical, above 1 more unusual.
            seed: fixes the result; drawn afresh where left out. With one for each prompt, each prompt gets the `count`
                sounds that it would get alone.
            init: a recording to vary, `strength` (0 to 1] of the way.
            strength: how far a variation may go: 1 forgets the recording.
            continue_from: a recording to go on from; `length` then counts the whole.
            inpaint: a recording of which `span` is made anew.
            span: (from, to) in seconds, or several of them.
            loop: make the end lead seamlessly back to the start.
            candidates: how many are made for each sound that is returned: the one that suits its text best, as the CLAP
                of the model hears it; the model's own choice, usually 1, where left out.
            batch_size: how many are made at once.
            watch: called after each step with (steps done, steps in all, current estimate).
            each: called with each sound, in their order, as soon as those that are made with it are done.

        Raises:
            UsageError: an argument is out of range or does not go with this model or with another argument, or the
                model denoises and a prompt holds no recording.
        """
        if isinstance(prompt, Audio):
            if init is not None:
                raise UsageError("only one recording can be varied: leave out init, or give a prompt that is none")
            prompt, init = None, prompt
        asked = list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, str) else [prompt]
        if not asked:
            raise UsageError("the list of prompts is empty; leave it out for any sound")
        if self.denoises and not all(isinstance(one, Prompt) and one.recording is not None for one in asked):
            raise UsageError("this model denoises and cannot generate; take denoise, and give it a recording to clean")
        if count is None and len(asked) > 1:
            raise UsageError("several prompts need count, how many to make of each")
        check(
            count=count,
            length=length,
            sample_rate=sample_rate,
            steps=steps,
            temperature=temperature,
            guidance=guidance,
            strength=strength,
            candidates=candidates,
            batch_size=batch_size,
        )
        source, config = init or continue_from or inpaint, self.model.config
        samples = samples_asked(config, length, source, extend=continue_from is not None)
        edit = edit_asked(
            config,
            samples,
            init=init,
            strength=strength,
            continue_from=continue_from,
            inpaint=inpaint,
            spans=spans_of(span),
            loop=loop,
        )
        meant = [self.prompt(one) for one in asked]
        prompts = [prompt for prompt in meant for _ in range(count or 1)]
        seed = secrets.randbits(32) if seed is None else seed
        if not isinstance(seed, Sequence):
            keys = [(seed, item) for item in range(len(prompts))]
        elif len(seed) == len(asked):
            keys = [(one, item) for one in seed for item in range(count or 1)]
        else:
            raise UsageError(f"seed must be one number, or one for each of the {len(asked)} prompts, not {len(seed)}")
        against = self.unwanted(negative, guidance)
        turns = config.sampling.candidates if candidates is None else candidates
        if turns > 1 and self._critic is None:
            raise UsageError("only a model with a CLAP can choose among candidates; leave them out")
        sounds: list[Audio] = []
        size = max(1, batch_size // turns)
        for first in range(0, len(prompts), size):
            here = [(*key, *([turn] if turn else [])) for key in keys[first : first + size] for turn in range(turns)]
            wanted = [
                prompting.completed(prompts[first + row // turns], self._conditioners, *key[:2])
                for row, key in enumerate(here)
            ]
            audio = self.model.sample(
                wanted,
                samples,
                negative=None if against is None else [against] * len(wanted),
                steps=steps,
                sampler=sampler,
                guidance=guidance,
                temperature=temperature,
                generator=[seeded(*key) for key in here],
                edit=edit,
                loop=loop,
                watch=overall(watch, first * turns, len(here), len(prompts) * turns),
            )
            for one in audio.cpu() if turns == 1 else self._best(audio, wanted, turns):
                sound = _at_rate(Audio(one, config.sample_rate), sample_rate or config.sample_rate, loop=loop)
                if sound.peak > 1 and (edit is None or edit.keep is None):
                    sound = sound.normalize()
                sounds.append(sound)
                if each:
                    each(sound)
        return sounds if count is not None else sounds[0]

    @property
    def _critic(self) -> Text | None:
        """What can tell how well a sound suits a text, if the model has it."""
        return next((part for part in self.model.conditioners if isinstance(part, Text)), None)

    def _best(self, audio: Tensor, prompts: Sequence[Prompt], turns: int) -> list[Tensor]:
        """Returns of every `turns` rows [audio_channels, samples] of audio the one that suits its prompt best."""
        critic = self._critic
        assert critic is not None
        rate = critic.config.clap.audio.sample_rate
        heard = [Audio(row, self.model.config.sample_rate).mono().resample(rate).samples[0] for row in audio.cpu()]
        with torch.no_grad():  # one by one, so that a choice does not depend on the company
            pairs = zip(prompts, heard, strict=True)
            suits = torch.cat(
                [critic.clap.score([one.text or ""], sound[None].to(audio.device)) for one, sound in pairs]
            )
        best = suits.reshape(-1, turns).argmax(dim=1).tolist()
        return [audio[group * turns + turn].cpu() for group, turn in enumerate(best)]

    @property
    def reads(self) -> bool:
        """Whether the model reads text, so that a prompt may be any sentence."""
        return any(part.reads for part in self._conditioners)

    @property
    def denoises(self) -> bool:
        """Whether the model listens to recordings, so that it can clean them."""
        return any(isinstance(part, Recording) for part in self.model.conditioners)

    def denoise(
        self,
        audio: Audio,
        *,
        steps: int | None = None,
        keep_db: float | None = None,
        causal: bool = False,
        watch: Watch | None = None,
    ) -> Audio:
        """Returns a recording without its noise: as long, as loud, of the same rate and channels.

        Each channel is cleaned alone. What lies above half the sample rate of the model is lost. Long recordings are
        cleaned block by block, so that memory stays bounded. Silence stays silence.

        Args:
            audio: any recording.
            steps: sampler steps; the model's own choice, usually 1, where left out.
            keep_db: the noise is lowered by at most this many dB; where left out, by as much as the model can.
            causal: gives what a stream gives, which hears nothing of what is to come.
            watch: called after each block with (blocks done, blocks in all, clean samples that came with it).

        Raises:
            UsageError: the model does not denoise, or an argument is out of range.
            HissError: the recording holds NaN or infinity.
        """
        stream = self.stream(audio.sample_rate, audio.channels, steps=steps, keep_db=keep_db, ahead=not causal)
        blocks = audio.samples.split(round(BLOCK * audio.sample_rate), dim=1)
        clean, done = torch.empty_like(audio.samples), 0
        for number, block in enumerate(blocks, 1):
            made = stream.push(block)
            if number == len(blocks):
                made = torch.cat([made, stream.finish()], dim=1)
            clean[:, done : done + made.shape[1]] = made
            done += made.shape[1]
            if watch:
                watch(number, len(blocks), made)
        return Audio(clean, audio.sample_rate)

    def stream(
        self,
        sample_rate: int,
        channels: int = 1,
        *,
        steps: int | None = None,
        keep_db: float | None = None,
        ahead: bool = False,
    ) -> DenoisingStream:
        """Returns a stream that cleans a recording while it comes in, piece by piece; see `DenoisingStream`.

        The sample rate is in Hz; `steps` and `keep_db` are those of `denoise`. The stream gives what that gives with
        `causal`, or without if it looks `ahead`, for which it waits.

        Raises:
            UsageError: the model does not denoise, or an argument is out of range.
        """
        return DenoisingStream(self.model, sample_rate, channels, steps=steps, keep_db=keep_db, ahead=ahead)

    def prompt(self, asked: Ask | None) -> Prompt:
        """Returns the prompt that is meant by what a user wrote: a text for a model that reads, else names of classes.

        A mapping may hold both, the text under "text". Warns of words that the model does not know.

        Raises:
            UsageError: the model has no such label, or takes no prompt at all.
        """
        return prompting.understood(asked, self._conditioners)

    def unwanted(self, negative: Ask | None, guidance: float | None = None) -> Prompt | None:
        """Returns the prompt to stay away from that is meant, if any; `guidance` is the model's own where left out.

        Raises:
            UsageError: as `prompt`, or the guidance is 1, which leads away from nothing.
        """
        if negative is None:
            return None
        own, meant = self.model.config.sampling, self.prompt(negative)
        if own.against == "prompt" and (own.guidance if guidance is None else guidance) == 1:
            raise UsageError("a negative prompt does nothing at guidance 1; give guidance above 1, such as 2")
        return meant


def _at_rate(sound: Audio, rate: int, *, loop: bool) -> Audio:
    """Returns a sound at another rate; one that goes round in a circle by a resampler that leaves no seam."""
    if not loop:
        return sound.resample(rate)
    samples = max(1, round(sound.samples.shape[1] * rate / sound.sample_rate))
    return Audio(resample_period(sound.samples, samples), rate)


def _shelf() -> Path:
    return Path(str(files("hiss"))) / "pretrained"
