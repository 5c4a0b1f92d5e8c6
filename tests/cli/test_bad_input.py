"""Whatever goes wrong, the command line says it in one sentence, ends with the right status and leaves nothing half."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_line import RECIPE, hiss, names, refused, tiny_model, tone
from safetensors.torch import save_file

from hiss.audio import Audio
from hiss.diffusion.sampling import SAMPLERS
from hiss.pipeline import Pipeline, bundled
from hiss.training.recipe import recipes

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
from hiss.cli import main
main()
"""
"""The program where no file can grow beyond 5000 bytes: a disk that takes no more, in the middle of writing."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def model(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and elsewhere a model of one's own to harm."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return Path(shutil.copytree(shelf, tmp_path / "tiny"))


# --- recordings ---


def write_text(path: Path) -> None:
    path.write_text("this is no sound\n" * 100)


def write_nothing(path: Path) -> None:
    path.touch()


def write_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 8000)


def write_half(path: Path) -> None:
    noise = torch.rand(8000, generator=torch.Generator().manual_seed(0)) - 0.5
    content = Audio(noise, 8000).encode("flac")
    path.write_bytes(content[: len(content) // 2])


def write_nan(path: Path) -> None:
    soundfile.write(path, np.full(800, np.nan), 8000, subtype="FLOAT")


def write_no_channels(path: Path) -> None:
    content = bytearray(Audio(torch.zeros(800), 8000).encode("wav"))
    content[22:24] = struct.pack("<H", 0)
    path.write_bytes(content)


UNUSABLE = [write_text, write_nothing, write_no_samples, write_half, write_nan, write_no_channels]


@pytest.mark.parametrize("write", UNUSABLE)
def test_a_recording_that_cannot_be_used_is_named(write: Callable[[Path], None], model: Path) -> None:
    write(Path("x.wav"))
    for option in ("--init", "--continue"):
        refused(hiss("generate", "-m", model, option, "x.wav"), 1, says="x.wav")
    refused(hiss("plot", "x.wav"), 1, says="x.wav")
    refused(hiss("evaluate", "generation", "--reference", ".", "--generated", "."), 1, says="x.wav")
    refused(hiss("data", "pack", ".", "-o", "packed"), 1, says="x.wav")
    assert names(Path()) == ["x.wav"]


def test_recordings_that_cannot_be_used_are_left_out_of_a_data_set_and_listed() -> None:
    Path("mixed").mkdir()
    tone(Path("mixed/good.wav"))
    for index, write in enumerate(UNUSABLE):
        write(Path(f"mixed/{index}.wav"))
    result = hiss("data", "stats", "mixed", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["count"] == 1
    assert [name for name, _ in found["skipped"]] == [f"{index}.wav" for index in range(len(UNUSABLE))]


@pytest.mark.parametrize("option", ["--init", "--continue"])
def test_a_recording_of_one_sample_is_enough(option: str, model: Path) -> None:
    Audio(torch.tensor([0.5]), 8000).save("one.wav")
    result = hiss("generate", "7", "-m", model, option, "one.wav", "-o", "x.wav")
    assert result.exit_code == 0, result.output
    assert Audio.load("x.wav").samples.shape == (1, 1 if option == "--init" else 401)


@pytest.mark.parametrize("words", [("train", "tiny.yaml", "--data"), ("data", "stats"), ("data", "pack", "-o", "new")])
def test_a_folder_that_is_missing_or_empty_is_named(words: tuple[str, ...]) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    Path("empty").mkdir()
    refused(hiss(*words, "nowhere"), 1, says="nowhere")
    refused(hiss(*words, "empty"), 1, says="empty")
    assert names(Path()) == ["empty", "tiny.yaml"]


# --- numbers and names ---


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model.channels=0", "8000 Hz, 0 and 0.05 s"),
        ("model.sample_rate=-1", "not -1 Hz, 1 and"),
        ("model.seconds=0", "1 and 0.0 s"),
        ("trainer.steps=0", "steps must be at least 1, not 0"),
        ("trainer.batch_size=-2", "batch_size must be at least 1, not -2"),
        ("trainer.learning_rate=fast", "recipe.trainer.learning_rate must be float, not 'fast'"),
        ("model.networc={}", "unknown key in recipe.model 'networc' (did you mean 'network'?); valid are: "),
        ("model.network.name=unot", "unknown name in recipe.model.network 'unot' (did you mean 'unet'?); valid are: "),
        ("data.name=tonez", "unknown name in recipe.data 'tonez' (did you mean 'tones'?); valid are: "),
        ("data.examples=0", "at least one example, not 0"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_before_the_work(change: str, says: str) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    refused(hiss("train", "tiny.yaml", change), 2, says=says)
    assert names(Path()) == ["tiny.yaml"]


def test_unknown_names_are_answered_with_all_that_there_are(model: Path) -> None:
    everything = {
        ("train", "nothing"): recipes(),
        ("generate", "--model", "nothing"): [*bundled(), "the path of a model folder"],
        ("models", "nothing"): bundled(),
        ("generate", "-m", str(model), "--sampler", "nothing"): SAMPLERS,
    }
    for words, valid in everything.items():
        for name in valid:
            refused(hiss(*words), 2, says=name)


# --- models ---


def damaged(content: bytes) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(content)

    return harm


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def foreign(folder: Path) -> None:
    save_file({"transformer.h.0.weight": torch.zeros(3)}, folder / "model.safetensors")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def changed(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return harm


def rename_seconds(config: dict[str, object]) -> None:
    model = config["model"]
    assert isinstance(model, dict)
    model["secons"] = model.pop("seconds")


newer = changed(lambda config: config.update(format=99, hiss="9.0"))
without_format = changed(lambda config: config.pop("format"))
misspelt = changed(rename_seconds)
READ_WITH_THE_CARD = (newer, without_format, misspelt)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (damaged(b""), "model.safetensors is damaged"),
        (damaged(b"not safetensors at all"), "model.safetensors is damaged"),
        (cut, "model.safetensors is damaged"),
        (foreign, "does not fit its config.json"),
        (without_weights, "lacks model.safetensors"),
        (newer, "has format 99 (hiss 9.0), this hiss reads up"),
        (without_format, "was not written by hiss"),
        (misspelt, "unknown key in model 'secons' (did you mean 'seconds'?)"),
    ],
    ids=["empty", "text", "cut", "foreign", "no-weights", "newer", "no-format", "misspelt"],
)
def test_a_model_that_is_damaged_foreign_or_newer_is_refused(
    harm: Callable[[Path], None], says: str, model: Path
) -> None:
    harm(model)
    refused(hiss("generate", "7", "--model", model), 1, says=says)
    if harm in READ_WITH_THE_CARD:
        refused(hiss("models", model), 1, says=says)
    assert names(Path()) == []


# --- disks and memory ---


def limited(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the program where no file can grow beyond 5000 bytes."""
    return subprocess.run([sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
def test_a_disk_that_takes_no_more_leaves_no_half_sound(model: Path) -> None:
    done = limited("generate", "7", "--model", str(model), "--length", "0.5", "--seed", "0", "-o", "out")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: cannot write out/7-0.wav: ")
    assert len(done.stderr.splitlines()) == 1
    assert names(Path("out")) == []


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
def test_a_disk_that_takes_no_more_ends_a_training_and_keeps_the_state_before() -> None:
    Path("tiny.yaml").write_text(RECIPE)
    assert hiss("train", "tiny.yaml", "trainer.steps=2").exit_code == 0
    before = names(Path("runs/tiny/state"))
    done = limited("train", "tiny.yaml", "--resume")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: cannot write the training state runs/tiny/state/000000004")
    assert "the state of step 2 is kept; make room and resume" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert names(Path("runs/tiny/state")) == before
    assert hiss("train", "tiny.yaml", "--resume").stderr.startswith("4 steps")


def test_recordings_that_cannot_be_used_are_told_when_training_begins() -> None:
    Path("tiny.yaml").write_text(RECIPE)
    Path("mixed").mkdir()
    for index in range(3):
        tone(Path(f"mixed/good-{index}.wav"))
    write_half(Path("mixed/half.wav"))
    result = hiss("train", "tiny.yaml", "--data", "mixed")
    assert result.exit_code == 0, result.output
    assert "recordings left out: 1; the first: half.wav: " in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_a_disk_that_is_full_at_one_file_leaves_the_model_that_was_there(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    pipeline = Pipeline.from_pretrained(model)
    for parameter in pipeline.model.parameters():
        torch.nn.init.ones_(parameter)
    pipeline.card += "Trained for longer.\n"
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix != Path(name).suffix:
            return write(path, data)
        write(path, data[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(Exception, match=rf"cannot write .*{name}: No space left on device"):
            pipeline.save_pretrained(model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that nobody can write to")
@pytest.mark.parametrize(
    "words",
    [
        ("generate", "-m", "MODEL", "-o", "/proc/new"),
        ("train", "tiny.yaml", "--out", "/proc/new"),
        ("data", "synth", "-o", "/proc/new"),
        ("data", "pack", ".", "-o", "/proc/new"),
        ("plot", "tone.wav", "-o", "/proc/new/x.png"),
        ("demo", "-o", "/proc/new"),
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_is_read_only_is_found_before_the_work(words: tuple[str, ...], model: Path) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    tone(Path("tone.wav"))
    refused(hiss(*(str(model) if word == "MODEL" else word for word in words)), 1, says="cannot write in /proc")
    assert names(Path()) == ["tiny.yaml", "tone.wav"]


def test_too_little_memory_is_answered_with_what_to_make_smaller(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Pipeline, "generate", full)
    refused(hiss("generate", "-m", model, "--length", 80000), 1, says="not enough memory; make --length")
    assert names(Path()) == []


def test_a_gpu_that_is_full_in_training_is_answered_with_what_to_make_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tiny.yaml").write_text(RECIPE)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr("hiss.training.recipe.run_recipe", full)
    refused(hiss("train", "tiny.yaml"), 1, says="in training trainer.batch_size")


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("librosa", ("evaluate", "generation", "--reference", ".", "--generated", ".")),
        ("matplotlib", ("generate", "-m", "MODEL", "--plot")),
        ("matplotlib", ("plot", "tone.wav")),
        ("accelerate", ("train", "tiny.yaml")),
        ("accelerate", ("demo",)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_package_that_is_missing_is_named_before_the_work_with_what_to_install(
    package: str, words: tuple[str, ...], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    tone(Path("tone.wav"))
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    extra = {"librosa": "evaluate", "matplotlib": "plot", "accelerate": "train"}[package]
    result = hiss(*(str(model) if word == "MODEL" else word for word in words))
    refused(result, 1, says=f"the package {package} is missing; install it with: pip install 'hiss[{extra}]'")
    assert names(Path()) == ["tiny.yaml", "tone.wav"]
