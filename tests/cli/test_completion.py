"""Shell completion: commands, options, and the names of models and recipes, without waiting for torch."""

import os
import subprocess
import sys

import pytest
import shellingham
from command_line import HISS, hiss

from hiss.cli.completion import complete_model, complete_recipe
from hiss.pipeline import bundled
from hiss.training.recipe import recipes


def offered(line: str) -> list[str]:
    """Returns what bash offers after TAB at the end of `line`."""
    said = {"_HISS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run(HISS, capture_output=True, text=True, check=True, env=os.environ | said)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hiss eval", ["evaluate"]),
        ("hiss generate 7 --model dig", ["digits"]),
        ("hiss train denoise-1", ["denoise-16k"]),
        ("hiss recipes denoise-1", ["denoise-16k"]),
    ],
)
def test_the_shell_is_offered_what_fits(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_all_models_and_recipes_are_offered_and_nothing_for_a_path() -> None:
    assert complete_model("") == bundled()
    assert complete_recipe("") == recipes()
    assert complete_model("runs/") == complete_recipe("runs/") == []


def test_completion_does_not_wait_for_torch() -> None:
    code = "import sys, hiss.cli.completion as c; c.complete_model(''); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_script_for_a_shell_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # The shell is the process that these tests were started from, which may be none or one without completion.
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))
    shown = hiss("--show-completion")
    assert shown.exit_code == 0
    assert "_HISS_COMPLETE=complete_bash" in shown.output
