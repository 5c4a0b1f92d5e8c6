"""The state of a training run on disk: tensors and plain numbers, nothing pickled, never half written.

`state/000001000/` holds `tensors.safetensors` and `state.json` of step 1000. The newest such folder is the state to
resume from; its `state.json` names the best step, whose folder is kept too. `best_model_20261231_235959/` holds the
same of the best model, and the model itself.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from torch import Tensor

from hiss.errors import HissError

FORMAT = 1
_TENSORS, _NUMBERS = "tensors.safetensors", "state.json"
_BEST = "best_model_"


def path(folder: Path, step: int) -> Path:
    """Returns where the state of a step is kept."""
    return folder / f"{step:09d}"


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> Path:
    """Returns the new folder `folder/STEP`, which appears complete or not at all.

    Raises:
        HissError: it cannot be written: read-only, disk full. The states before it stay.
    """
    kept = [other for other in steps(folder) if other != step]
    before = f"the state of step {kept[-1]} is kept; make room and resume" if kept else "make room and start again"
    return _write(path(folder, step), step, tensors, numbers, before=before)


def save_best(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
    *,
    model: Callable[[Path], None] | None = None,
) -> Path:
    """Returns the new folder `folder/best_model_YYYYMMDD_HHMMSS`, named by the local time; the one before is removed.

    `model` writes what else belongs into it. The folder appears complete or not at all.

    Raises:
        HissError: it cannot be written. The one before stays.
    """
    now = datetime.now()
    # Two may be found within a second.
    while (final := folder / f"{_BEST}{now:%Y%m%d_%H%M%S}").exists():
        now += timedelta(seconds=1)
    found = best(folder)
    _write(final, step, tensors, numbers, before="make room and resume", model=model)
    for old in found:
        shutil.rmtree(old)
    return final


def best(folder: Path) -> list[Path]:
    """Returns the folders that `save_best` wrote into `folder`, complete or not, the oldest first."""
    return sorted(path for path in folder.glob(f"{_BEST}*") if re.fullmatch(_BEST + r"\d{8}_\d{6}(\.part)?", path.name))


def prune(folder: Path, keep: set[int]) -> None:
    """Removes the states of all other steps and what a crash left half written."""
    for found in folder.iterdir():
        if found.suffix == ".part" or (found.name.isdigit() and int(found.name) not in keep):
            shutil.rmtree(found)


def steps(folder: Path) -> list[int]:
    """Returns the steps whose state is in the folder, in ascending order."""
    return sorted(int(found.name) for found in folder.iterdir() if found.name.isdigit()) if folder.is_dir() else []


def load(folder: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors and the numbers of one step.

    Raises:
        HissError: the state is damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state = path(folder, step)
    others = [other for other in steps(folder) if other != step]
    remedy = f"remove that folder to continue from step {others[-1]}" if others else "remove that folder to start anew"
    try:
        numbers = json.loads((state / _NUMBERS).read_text(encoding="utf-8"))
        version, digest = numbers["format"], numbers["sha256"]
        if version == FORMAT and digest == _digest(state / _TENSORS):
            return load_file(state / _TENSORS), numbers
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise HissError(f"the training state {state} is damaged ({error}); {remedy}") from error
    if version != FORMAT:
        raise HissError(f"the training state {state} has format {version}, this version reads {FORMAT}; {remedy}")
    raise HissError(f"the training state {state} is damaged: {_TENSORS} is not what was written; {remedy}")


def _write(
    final: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
    *,
    before: str,
    model: Callable[[Path], None] | None = None,
) -> Path:
    """Returns the folder `final`, which appears complete or not at all; `before` says what is left if it does not."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    beside = final.with_name(f"{final.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        beside.mkdir(parents=True)
        if model is not None:
            model(beside)
        save_file(copies, beside / _TENSORS)
        head = {"format": FORMAT, "step": step, "sha256": _digest(beside / _TENSORS)}
        (beside / _NUMBERS).write_text(json.dumps(head | dict(numbers), indent=1, allow_nan=False), encoding="utf-8")
        for written in (*beside.iterdir(), beside):
            _sync(written)
        beside.rename(final)
        _sync(final.parent)
    except (OSError, SafetensorError, HissError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise HissError(f"cannot write the training state {final} ({error}); {before}") from error
    return final


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
