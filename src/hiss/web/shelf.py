"""The models that a server offers, and what each of them can do."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from hiss.conditioners.label import Label
from hiss.conditioners.recording import Recording
from hiss.conditioners.timing import Timing
from hiss.denoise_folders import fitting_model
from hiss.diffusion.sampling import SAMPLERS
from hiss.errors import HissError, UsageError, unknown
from hiss.pipeline import Pipeline, bundled, load
from hiss.saved import summary
from hiss.types import Precision

Task = Literal["generate", "edit", "denoise"]

_log = logging.getLogger("hiss.web")


@dataclass(frozen=True)
class Model:
    """A model that is ready for work."""

    name: str
    source: str
    """What `load` finds it by: the name of a bundled model, or a folder."""
    pipeline: Pipeline

    @cached_property
    def tasks(self) -> list[Task]:
        """What it is good for."""
        return ["denoise"] if self.pipeline.denoises else ["generate", "edit"]

    @cached_property
    def facts(self) -> dict[str, object]:
        """What there is to know of it before asking it for something."""
        config = self.pipeline.model.config
        told = [part for part in self.pipeline.model.conditioners if not isinstance(part, Label | Recording | Timing)]
        return {
            "name": self.name,
            "tasks": self.tasks,
            "summary": summary(self.pipeline.card),
            "sample_rate": config.sample_rate,
            "channels": config.channels,
            "seconds": config.seconds,
            "labels": self.pipeline.labels,
            "text": bool(told),
            "steps": config.sampling.steps,
            "sampler": config.sampling.sampler,
            "samplers": sorted(SAMPLERS),
            "guidance": config.sampling.guidance,
        }


class Shelf:
    """All models of a server, by name."""

    def __init__(self, names: Sequence[str] = (), *, device: str | None = None, precision: Precision = "no") -> None:
        """Loads models by name or folder, as `hiss.load` does; all that are bundled where none is named.

        A folder is offered under its name, or where that is taken with the name of the folder around it in front. A
        bundled model that cannot be loaded, such as for lack of an extra, is left out with a word in the log.

        Raises:
            HissError: a model that was named cannot be loaded, or none is left.
            UsageError: two folders would be offered under one name.
        """
        self.models: dict[str, Model] = {}
        for name, source in _named(names or bundled()).items():
            try:
                pipeline = load(source, device=device, precision=precision)
            except (HissError, ImportError) as error:
                if names:
                    raise
                _log.warning("the model %s is left out: %s", source, error)
                continue
            self.models[name] = Model(name, source, pipeline)
        if not self.models:
            raise HissError("there is no model to serve; name one with --model")

    def of(self, name: str | None, task: Task, *, sample_rate: int = 0) -> Model:
        """Returns a model for a task: that of the name, or one that fits recordings of so many Hz.

        Raises:
            UsageError: there is none, or it does something else.
        """
        able = [one for one, model in self.models.items() if task in model.tasks]
        if name is None and len(able) > 1 and task == "denoise" and set(able) & set(bundled()):
            name = fitting_model(sample_rate, able)
        name = able[0] if name is None and able else name
        if name not in able:
            raise unknown(f"model that can {task}", name, able)
        return self.models[name]


def _named(sources: Sequence[str]) -> dict[str, str]:
    """Returns what `load` finds the models by, in order, by the names that they are offered under.

    Raises:
        UsageError: two of them would be offered under one name.
    """
    own = set(sources) & set(bundled())  # names that no folder takes
    named: dict[str, str] = {}
    folders: set[Path] = set()
    for source in sources:
        folder = Path(source).resolve()
        if source in own:
            named[source] = source
        elif folder not in folders:
            folders.add(folder)
            longer = f"{folder.parent.name}-{folder.name}"
            name = longer if folder.name in own | named.keys() else folder.name
            if name in own | named.keys():
                raise UsageError(f"{named.get(name, name)} and {source} would both be offered as {name}; rename one")
            named[name] = source
    return named
