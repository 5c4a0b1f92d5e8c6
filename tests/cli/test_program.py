"""The program as a whole: help, version, exit status, interruption, and no traceback unless it is asked for."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import typer
from command_line import HISS, hiss, names, refused, tiny_model

from hiss.cli import app
from hiss.cli.extras import EXTRAS

COMMANDS = [
    "generate",
    "denoise",
    "train",
    "recipes",
    "models",
    "convert",
    "plot",
    "demo",
    "serve",
    "doctor",
    "data synth",
    "data stats",
    "data pack",
    "data mix",
    "evaluate denoise",
    "evaluate generation",
    "evaluate text",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_list_of_commands_is_complete() -> None:
    def walk(group: object, above: str = "") -> list[str]:
        assert isinstance(group, typer.core.TyperGroup)
        found = []
        for name, command in group.commands.items():
            inner = isinstance(command, typer.core.TyperGroup)
            found += walk(command, f"{name} ") if inner else [above + name]
        return found

    assert sorted(walk(typer.main.get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = hiss(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: hiss {command}" in result.stdout
    assert names(Path()) == []


def test_no_words_at_all_show_the_help() -> None:
    result = hiss()
    assert result.exit_code == 0
    assert "Example: hiss generate" in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert hiss("--version").stdout == "hiss 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("generat",), "No such command 'generat'"),
        (("data",), "Missing command; see hiss data --help"),
        (("plot",), "see hiss plot --help"),
        (("--loud",), "No such option: --loud"),
    ],
)
def test_wrong_words_are_refused_in_one_sentence(words: tuple[str, ...], says: str) -> None:
    refused(hiss(*words), 2, says=says)


@pytest.mark.parametrize("words", [("--debug", "generate"), ("generate", "--debug")])
def test_debug_shows_the_traceback_wherever_it_is_written(words: tuple[str, ...]) -> None:
    refused(hiss("generate"), 2, says="no model was named")
    done = subprocess.run([*HISS, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_python_can_run_it_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "hiss", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == hiss("--version").stdout


def test_the_environment_can_ask_for_tracebacks() -> None:
    environment = os.environ | {"HISS_DEBUG": "1"}
    done = subprocess.run([*HISS, "generate"], capture_output=True, text=True, check=False, env=environment)
    assert "Traceback" in done.stderr


def test_a_prompt_may_look_like_an_option_after_two_dashes() -> None:
    refused(hiss("generate", "--", "--debug"), 2, says="no model was named")


def test_what_is_to_be_installed_brings_the_package_that_was_missing() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(requirement.startswith(package) for requirement in extras[extra]), package
    assert extras["all"] == ["hiss[evaluate,plot,serve,text,train]"]


def test_no_colour_is_printed_where_the_environment_forbids_it() -> None:
    def colours(**said: str) -> list[str]:
        environment = os.environ | {"FORCE_COLOR": "1"} | said
        done = subprocess.run([*HISS, "--help"], capture_output=True, text=True, check=True, env=environment)
        return re.findall(r"\x1b\[[\d;]*3\dm", done.stdout)

    assert colours()
    assert not colours(NO_COLOR="1")


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, hiss.cli; sys.exit(int(any(name in sys.modules for name in ('torch', 'librosa', 'numpy'))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_interruption_ends_with_130_one_sentence_and_no_file(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    words = ["generate", "7", "--model", str(model), "--steps", "10000", "--length", "60", "-o", "sounds/x.wav"]
    process = subprocess.Popen([*HISS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("seed ")  # from here on it works
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == ""
    assert errors == "interrupted: stopped on request; files that were finished are kept\n"
    assert names(tmp_path) == ["model"]
