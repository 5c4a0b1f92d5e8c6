"""The state on disk: exact, pickle-free, and clear about damage."""

import json
import re
from pathlib import Path

import pytest
import torch

from hiss.errors import HissError
from hiss.training import checkpoints

TENSORS = {"model/a": torch.arange(6.0).view(2, 3).T, "optimizer/step/a": torch.tensor(7.0)}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = checkpoints.save(tmp_path, 12, TENSORS, {"loss": 0.1 + 0.2, "best": None})
    tensors, numbers = checkpoints.load(tmp_path, 12)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert (numbers["step"], numbers["loss"], numbers["best"]) == (12, 0.1 + 0.2, None)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".safetensors"]


def test_views_of_one_vector_are_saved_apart(tmp_path: Path) -> None:
    whole = torch.arange(4.0)
    checkpoints.save(tmp_path, 1, {"a": whole[:2], "b": whole[1:]}, {})
    assert checkpoints.load(tmp_path, 1)[0]["b"].tolist() == [1.0, 2.0, 3.0]


def test_pruning_keeps_what_is_asked_for_and_clears_what_a_crash_left(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, TENSORS, {})
    (tmp_path / "000000004.part").mkdir()
    (tmp_path / "notes.txt").touch()
    assert checkpoints.steps(tmp_path) == [1, 2, 3]
    checkpoints.prune(tmp_path, {1, 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000001", "000000003", "notes.txt"]


def test_the_best_is_named_by_its_time_holds_a_model_and_replaces_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "best_model_of_mine").mkdir()
    (tmp_path / "best_model_20260101_000000.part").mkdir()
    first = checkpoints.save_best(tmp_path, 1, TENSORS, {"loss": 2.0}, model=lambda beside: (beside / "a").touch())
    assert re.fullmatch(r"best_model_\d{8}_\d{6}", first.name)
    assert {path.name for path in first.iterdir()} == {"a", "tensors.safetensors", "state.json"}
    assert json.loads((first / "state.json").read_text())["loss"] == 2.0
    second = checkpoints.save_best(tmp_path, 2, TENSORS, {"loss": 1.0})
    assert second.name > first.name, "even within a second"
    assert checkpoints.best(tmp_path) == [second]
    assert {path.name for path in tmp_path.iterdir()} == {"best_model_of_mine", second.name}


def test_a_best_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    def fail(beside: Path) -> None:
        raise HissError("no room")

    first = checkpoints.save_best(tmp_path, 1, TENSORS, {})
    with pytest.raises(HissError, match=r"cannot write .*no room.*make room and resume"):
        checkpoints.save_best(tmp_path, 2, TENSORS, {}, model=fail)
    assert list(tmp_path.iterdir()) == [first]


def test_no_folder_means_no_steps(tmp_path: Path) -> None:
    assert checkpoints.steps(tmp_path / "none") == []


@pytest.mark.parametrize("harm", ["cut", "flip", "missing", "json", "key", "format"])
def test_a_damaged_state_is_refused_with_a_way_out(tmp_path: Path, harm: str) -> None:
    checkpoints.save(tmp_path, 3, TENSORS, {})
    folder = checkpoints.save(tmp_path, 5, TENSORS, {})
    tensors, numbers = folder / "tensors.safetensors", folder / "state.json"
    data = bytearray(tensors.read_bytes())
    if harm == "cut":
        tensors.write_bytes(data[:-5])
    elif harm == "flip":
        data[-2] ^= 1
        tensors.write_bytes(data)
    elif harm == "missing":
        tensors.unlink()
    elif harm == "json":
        numbers.write_text("{")
    elif harm == "key":
        numbers.write_text("{}")
    else:
        numbers.write_text(json.dumps(json.loads(numbers.read_text()) | {"format": 99}))
    word = "format 99" if harm == "format" else "damaged"
    with pytest.raises(HissError, match=rf"{word}.*remove that folder to continue from step 3$"):
        checkpoints.load(tmp_path, 5)
