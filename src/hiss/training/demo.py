"""What a model sounds like while it learns."""

from collections.abc import Sequence

from torch import nn

from hiss.audio import Audio
from hiss.model import AudioDiffusionModel
from hiss.pipeline import Pipeline
from hiss.training.journal import Journal


class AudioDemo:
    """Writes a few sounds as WAV, one picture of them all, and both to TensorBoard; the same noise every time."""

    def __init__(
        self, model: AudioDiffusionModel, prompts: Sequence[str] = (), *, count: int = 4, seed: int = 0
    ) -> None:
        """Makes one sound for each prompt, or `count` without a prompt."""
        self.pipeline = Pipeline(model)
        self.prompts = [self.pipeline.prompt(prompt) for prompt in prompts]
        self.titles = list(prompts) or [f"sound {number}" for number in range(1, count + 1)]
        self.seed = seed

    def __call__(self, step: int, objective: nn.Module, journal: Journal) -> None:
        """Makes the sounds with the weights that the model has now, into `demos/STEP/`."""
        from hiss.plot import mel_image, picture

        if journal.folder is None:
            return
        asked = self.prompts or self.pipeline.prompt(None)
        count = 1 if self.prompts else len(self.titles)
        sounds: list[Audio] = self.pipeline.generate(asked, count=count, seed=self.seed)
        folder = journal.folder / "demos" / f"{step:09d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, (title, sound) in enumerate(zip(self.titles, sounds, strict=True), start=1):
            # As floats: the pipeline turned down what was too loud, and what is very quiet is not rounded.
            sound.save(folder / f"{number:02d}.wav", subtype="FLOAT")
            journal.audio(step, f"demo/{number:02d} {title}", sound)
            journal.picture(step, f"demo/{number:02d} {title}", mel_image(sound))
        picture(list(zip(self.titles, sounds, strict=True)), folder / "sounds.png")
