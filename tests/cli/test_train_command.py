"""hiss train: a recipe becomes a model, a run resumes, Ctrl-C saves, and wrong recipes are refused."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from command_line import HISS, RECIPE, hiss, names, refused

from hiss.audio import Audio


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)


def test_a_recipe_becomes_a_model_that_generates() -> None:
    result = hiss("train", "tiny.yaml")
    assert result.exit_code == 0, result.output
    assert result.stdout == "runs/tiny/model\n"
    assert result.stderr.startswith("4 steps, loss ")
    assert hiss("generate", "--model", "runs/tiny/model", "-o", "x.wav").exit_code == 0
    assert Audio.load("x.wav").samples.shape == (1, 400)


def test_a_run_is_not_overwritten_but_resumed_and_values_can_be_changed() -> None:
    assert hiss("train", "tiny.yaml", "trainer.steps=2", "--out", "run").stderr.startswith("2 steps")
    refused(hiss("train", "tiny.yaml", "--out", "run"), 2, says="already holds a run of 2 steps")
    assert hiss("train", "tiny.yaml", "--out", "run", "--resume").stderr.startswith("4 steps")


def test_recordings_of_a_folder_replace_the_data_of_the_recipe() -> None:
    assert hiss("data", "synth", "-o", "tones", "-n", 3, "--sample-rate", 8000).exit_code == 0
    assert hiss("train", "tiny.yaml", "--data", "tones").exit_code == 0


def test_a_run_ends_in_time() -> None:
    assert hiss("train", "tiny.yaml", "trainer.steps=1000000", "--minutes", 0.02).exit_code == 0
    assert "model" in names(Path("runs/tiny"))


def test_an_interrupted_run_is_saved_and_ends_with_130() -> None:
    words = ["train", "tiny.yaml", "trainer.steps=1000000"]
    environment = os.environ | {"FORCE_COLOR": "1"}  # a bar, to see when the work has begun
    process = subprocess.Popen([*HISS, *words], stderr=subprocess.PIPE, text=True, bufsize=1, env=environment)
    assert process.stderr is not None
    seen = ""
    while "loss" not in seen:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped on request, and saved; --resume continues exactly there" in errors
    assert "Traceback" not in errors
    assert {"model", "state"} <= set(names(Path("runs/tiny")))


STAGES = """
data: {name: tones, examples: 8}
trainer: {steps: 2, batch_size: 2}
stages:
  first:
    kind: vocoder
    model: {name: istft, channels: 4, blocks: 1, mel: {sample_rate: 8000, n_fft: 64, hop: 32, bins: 4, high: 4000}}
    objective: {seconds: 0.1, segment: 0.05, periods: [2], windows: [64], width: 2}
  second:
    model:
      sample_rate: 8000
      seconds: 0.05
      representation: {name: mel, vocoder: {from: first}}
      network: {name: unet, channels: [8], factors: [], attention: [false], embedding: 8}
"""


def test_one_command_trains_all_stages_and_leaves_out_those_that_are_finished() -> None:
    Path("stages.yaml").write_text(STAGES)
    result = hiss("train", "stages.yaml", "--stage", "first", "--out", "run")
    assert result.exit_code == 0, result.output
    assert result.stdout == "run/first/model\n"
    result = hiss("train", "stages.yaml", "--out", "run")
    assert result.exit_code == 0, result.output
    assert result.stdout == "run/second/model\n"
    assert "stage first is finished" in result.stderr
    assert "second: 2 steps, loss " in result.stderr
    assert hiss("generate", "--model", "run/second/model", "-o", "x.wav").exit_code == 0
    refused(hiss("train", "tiny.yaml", "--stage", "first"), 2, says="tiny.yaml has no stages")
    refused(hiss("train", "stages.yaml", "--stage", "third"), 2, says="unknown stage 'third'")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tinny",), "unknown recipe 'tinny'"),
        (("tiny.yaml", "trainer.stepz=3"), "unknown key in recipe.trainer 'stepz' (did you mean 'steps'?)"),
        (("tiny.yaml", "trainer.steps"), "a change must be KEY=VALUE"),
        (("tiny.yaml", "trainer.steps=many"), "recipe.trainer.steps must be int, not 'many'"),
        (("tiny.yaml", "trainer.steps=-1"), "at least 1, not -1"),
        (("tiny.yaml", "trainer=["), "is no valid YAML"),
        (("tiny.yaml", "--minutes", "long"), "'--minutes'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_recipe_is_refused_in_one_sentence(words: tuple[str, ...], says: str) -> None:
    refused(hiss("train", *words), 2, says=says)
    assert names(Path()) == ["tiny.yaml"]


def test_data_that_is_not_there_and_folders_that_cannot_be_written_are_failures() -> None:
    refused(hiss("train", "tiny.yaml", "--data", "nowhere"), 1, says="nowhere")
    refused(hiss("train", "tiny.yaml", "--out", "tiny.yaml/run"), 1, says="cannot write in tiny.yaml")
    assert names(Path()) == ["tiny.yaml"]


def test_adapters_are_trained_beside_a_model_and_used_with_it() -> None:
    assert hiss("train", "tiny.yaml", "--out", "base").exit_code == 0
    words = ("train", "tiny.yaml", "trainer.learning_rate=0.1", "--lora", 2, "--out", "lora")
    refused(hiss(*words), 2, says="name that model as the one to start from, --init")
    assert hiss(*words, "--init", "base/model").stdout == "lora/model\n"
    generate = ("generate", "--model", "base/model", "--seed", 1, "--normalize", "none")
    assert hiss(*generate, "-o", "plain.wav").exit_code == 0
    assert hiss(*generate, "--lora", "lora/model", "-o", "adapted.wav").exit_code == 0
    assert not Audio.load("plain.wav").samples.equal(Audio.load("adapted.wav").samples)
    half = ("--lora", "lora/model=0.5")
    for name, options in (("off", ("--lora", "lora/model=0")), ("half", half), ("twice", half * 2)):
        assert hiss(*generate, *options, "-o", f"{name}.wav").exit_code == 0
    made = {name: Audio.load(f"{name}.wav").samples for name in ("plain", "adapted", "off", "half", "twice")}
    assert made["off"].equal(made["plain"])
    assert not made["half"].equal(made["plain"])
    assert not made["half"].equal(made["adapted"])
    torch.testing.assert_close(made["twice"], made["adapted"], atol=2e-3, rtol=0)
    refused(hiss(*generate, "--lora", "lora/model=much"), 2, says="FOLDER=STRENGTH")
    refused(hiss(*generate, "--lora", "lora/model=nan"), 2, says="strength of a LoRA")
    refused(hiss(*generate, "--lora", "base/model"), 1, says="where one of the kind lora is needed")
    refused(hiss("train", "sounds", "--lora", 2), 2, says="name the one that --lora is for, --stage")
