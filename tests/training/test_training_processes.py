"""Training in two processes on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import run

from hiss.training import checkpoints


def launch(folder: Path, **options: Any) -> list[dict[str, Any]]:
    """Returns what each of two processes reports."""
    program = [str(Path(__file__).with_name("toy_run.py")), str(folder), json.dumps(options)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *program]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    first, second = launch(tmp_path / "two", plain=True, config={"batch_size": 4, "steps": 25})
    launch(tmp_path / "two", plain=True, config={"batch_size": 4, "steps": 30, "decay": "constant"})
    assert first["weights"] == second["weights"]
    assert first["validation"] == second["validation"]
    result, toy = run(tmp_path / "one", plain=True, batch_size=8, steps=25)
    weights = torch.nn.utils.parameters_to_vector(toy.parameters())
    torch.testing.assert_close(torch.tensor(first["weights"]), weights, rtol=1e-4, atol=1e-5)
    assert result.best is not None
    assert first["validation"] == pytest.approx(result.best.loss, rel=1e-4)
    rows = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [10, 20, 30], "only one process writes"
    assert checkpoints.steps(tmp_path / "two" / "state")[-1] == 30


@pytest.mark.slow
def test_a_signal_to_one_process_ends_both(tmp_path: Path) -> None:
    first, second = launch(tmp_path, signal="SIGTERM", at=12)
    assert first["step"] == second["step"] == 13
    assert (first["ended"], second["ended"]) == ("SIGTERM", "another process")
    assert checkpoints.steps(tmp_path / "state")[-1] == 13


@pytest.mark.slow
def test_a_time_budget_ends_both_processes_alike(tmp_path: Path) -> None:
    first, second = launch(tmp_path, minutes=0.02, config={"steps": 10**6, "save_every": 0})
    assert first["ended"] == second["ended"] == "minutes"
    assert first["weights"] == second["weights"]
    assert first["validation"] == second["validation"] is not None
