"""What a model sounds like while it learns."""

from collections.abc import Sequence
from itertools import islice

from torch import nn

from hiss.audio import Audio
from hiss.data import Dataset
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel
from hiss.pipeline import Pipeline
from hiss.training.journal import Journal
from hiss.training.trainer import Demo

COUNT = 4
"""Sounds that are made where no prompts say which."""


def demo_of(model: AudioDiffusionModel, examples: Dataset, *, prompts: Sequence[str] = (), seed: int = 0) -> Demo:
    """Returns the demo of a model: what it generates, or of one that denoises what becomes of the first examples.

    Raises:
        UsageError: a prompt is none for this model, or it denoises and the examples are not noisy.
    """
    pipeline = Pipeline(model)
    if not pipeline.denoises:
        return AudioDemo(pipeline, prompts, seed=seed)
    if prompts:
        raise UsageError("a model that denoises takes no prompts; leave them out of the recipe")
    return DenoisingDemo(pipeline, examples)


class AudioDemo:
    """Makes a few sounds, with the same noise every time."""

    def __init__(self, pipeline: Pipeline, prompts: Sequence[str] = (), *, seed: int = 0) -> None:
        """Makes one sound for each prompt, or `COUNT` without a prompt."""
        self.pipeline = pipeline
        self.prompts = [pipeline.prompt(prompt) for prompt in prompts]
        self.titles = list(prompts) or [f"sound {number}" for number in range(1, COUNT + 1)]
        self.seed = seed

    def __call__(self, step: int, objective: nn.Module, journal: Journal) -> None:
        """Makes the sounds with the weights that the model has now, into `demos/STEP/`."""
        asked = self.prompts or self.pipeline.prompt(None)
        count = 1 if self.prompts else len(self.titles)
        sounds: list[Audio] = self.pipeline.generate(asked, count=count, seed=self.seed)
        numbered = enumerate(zip(self.titles, sounds, strict=True), start=1)
        note(step, journal, [(f"{number:02d}", f"{number:02d} {title}", sound) for number, (title, sound) in numbered])


class DenoisingDemo:
    """Cleans the first examples of a data set: of each there are the noisy, the clean and the estimated sound."""

    def __init__(self, pipeline: Pipeline, examples: Dataset) -> None:
        self.pipeline = pipeline
        self.pairs = [
            (Audio(prompt.recording, batch.sample_rate), Audio(clean, batch.sample_rate))
            for batch in islice(examples.once(COUNT), 1)
            for prompt, clean in zip(batch.prompts, batch.audio, strict=True)
            if prompt.recording is not None
        ]
        if not self.pairs:
            raise UsageError("a model that denoises needs noisy recordings; give it data such as mixtures or pairs")

    def __call__(self, step: int, objective: nn.Module, journal: Journal) -> None:
        """Cleans the examples with the weights that the model has now, into `demos/STEP/`."""
        sounds = []
        for number, (noisy, clean) in enumerate(self.pairs, start=1):
            three = {"noisy": noisy, "clean": clean, "estimate": self.pipeline.denoise(noisy)}
            sounds += [(f"{number:02d}-{what}", f"{number:02d} {what}", sound) for what, sound in three.items()]
        note(step, journal, sounds)


def note(step: int, journal: Journal, sounds: Sequence[tuple[str, str, Audio]]) -> None:
    """Writes each (name of the file, title, sound) as WAV, one picture of them all, and both to TensorBoard."""
    from hiss.plot import mel_image, picture

    if journal.folder is None:
        return
    folder = journal.folder / "demos" / f"{step:09d}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, title, sound in sounds:
        # As floats: the pipeline turned down what was too loud, and what is very quiet is not rounded.
        sound.save(folder / f"{name}.wav", subtype="FLOAT")
        journal.audio(step, f"demo/{title}", sound)
        journal.picture(step, f"demo/{title}", mel_image(sound))
    picture([(title, sound) for _, title, sound in sounds], folder / "sounds.png")
