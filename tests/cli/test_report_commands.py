"""hiss models, hiss plot and hiss evaluate: what they report, and what they refuse."""

import json
from pathlib import Path

import pytest
import torch
from command_line import CARD, hiss, names, refused, tiny_model, tone

from hiss.audio import Audio
from hiss.cli.outputs import asked
from hiss.pipeline import bundled
from hiss.saved import summary


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def noises(folder: Path, *, seed: int, count: int = 8) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        Audio(0.1 * torch.randn(4000, generator=generator), 8000).save(folder / f"{index}.wav")
    return folder


def test_models_lists_what_comes_with_the_package() -> None:
    result = hiss("models")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in bundled())
    listed = json.loads(hiss("models", "--json").stdout)
    assert [model["name"] for model in listed] == bundled()


def test_models_prints_the_card_of_a_folder(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny")
    result = hiss("models", folder)
    assert result.exit_code == 0
    assert "Makes noise of 0.1 s at 8000 Hz." in result.stdout
    [told] = json.loads(hiss("models", folder, "--json").stdout)
    assert told["summary"] == "Makes noise of 0.1 s at 8000 Hz."
    assert told["card"] == CARD


def test_a_card_is_read_without_building_the_model(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny")
    (folder / "model.safetensors").unlink()
    assert "Makes noise of 0.1 s" in hiss("models", folder).stdout


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("# Title\n\nFirst\nparagraph.\n\nSecond.", "First paragraph."),
        ("---\nlicense: mit\n---\n# Title\nDirectly below.", "Directly below."),
        ("No title.", "No title."),
        ("", ""),
    ],
)
def test_the_summary_of_a_card_is_its_first_paragraph(card: str, expected: str) -> None:
    assert summary(card) == expected


def test_plot_writes_one_picture_of_several_files(tmp_path: Path) -> None:
    result = hiss("plot", tone(tmp_path / "a.wav"), tone(tmp_path / "b.flac"), "-o", "new.png")
    assert result.exit_code == 0
    assert result.stdout == "new.png\n"
    assert Path("new.png").read_bytes().startswith(b"\x89PNG")


def test_plot_draws_the_mdct_if_asked(tmp_path: Path) -> None:
    files = tone(tmp_path / "a.wav"), tone(tmp_path / "b.flac")
    assert hiss("plot", *files, "--mdct", "-o", "mdct.png").exit_code == 0
    assert hiss("plot", *files, "-o", "wave.png").exit_code == 0
    assert Path("mdct.png").read_bytes() != Path("wave.png").read_bytes()


def test_plot_makes_the_folder_of_the_picture(tmp_path: Path) -> None:
    assert hiss("plot", tone(tmp_path / "a.wav"), "-o", "deep/er/new.png").exit_code == 0
    assert names(Path("deep/er")) == ["new.png"]


def test_plot_refuses_what_it_cannot_draw_or_write(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav")
    refused(hiss("plot", path, "-o", "a.jpg"), 2, says="the picture is a PNG")
    refused(hiss("plot", "none.wav"), 1, says="cannot read none.wav")
    refused(hiss("plot", path, "-o", path / "a.png"), 1, says="cannot write in")
    refused(hiss("plot", *[path] * 101), 2, says="1 to 100 sounds, not 101")
    assert names(tmp_path) == ["a.wav"]


def test_evaluate_generation_prints_a_table_with_its_meaning_or_json(tmp_path: Path) -> None:
    folders = [noises(tmp_path / name, seed=seed) for seed, name in enumerate(("real", "made", "learned"))]
    words = ("evaluate", "generation", "--reference", folders[0], "--generated", folders[1], "--embedding", "logmel")
    table = hiss(*words, "--train", folders[2])
    assert table.exit_code == 0, table.output
    assert table.stdout.split()[:3] == ["generated", "real", "chance"]
    rows = {line.split()[0] for line in table.stdout.splitlines() if line.strip()}
    assert {"recordings", "FAD", "KAD", "vendi", "likeness", "RMS,", "clipped", "silent", "real", "chance"} <= rows
    assert max(map(len, table.stdout.splitlines())) <= 80
    report = json.loads(hiss(*words, "--json").stdout)
    assert report["clips"] == {"generated": 8, "reference": 8}
    assert report["figures"]["fad"] >= 0
    assert set(report["chance"]) == {"fad", "kad"}
    assert report["accuracy"] == report["reference_accuracy"] == {}


def test_what_was_asked_is_read_from_the_names_that_generate_gives(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    for digit in (7, 8):
        assert hiss("generate", digit, "-m", model, "-n", 3, "--seed", 0, "-o", tmp_path / "made").exit_code == 0
    real = noises(tmp_path / "real", seed=0)
    words = ("evaluate", "generation", "--embedding", "digits", "--reference", real, "--generated")
    report = json.loads(hiss(*words, tmp_path / "made", "--json").stdout)
    assert set(report["accuracy"]) == {"digit"}
    assert set(report["class_accuracy"]["digit"]) == {"7", "8"}
    table = hiss(*words, tmp_path / "made")
    share = f"{report['accuracy']['digit']:.1%}"
    assert any(line.split() == ["digit", "as", "asked", share] for line in table.stdout.splitlines())
    assert ", 8 " in table.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("7-0", {"digit": "7"}),
        ("7-theo-12", {"digit": "7", "speaker": "theo"}),
        ("george-7-0", {"digit": "7", "speaker": "George"}),
        ("7", {}),
        ("7-theo", {}),
        ("piano-trio-7-0", {"ensemble": "piano trio", "digit": "7"}),
        ("7-piano-0", {"digit": "7", "ensemble": "piano"}),
        ("trio-0", {}),
        ("take-7-0", {}),
        ("digits-0", {}),
        ("3", {}),
        ("", {}),
    ],
)
def test_a_file_name_tells_what_was_asked_only_if_every_word_is_a_class(name: str, expected: dict[str, str]) -> None:
    classes = {"digit": ("7", "8"), "speaker": ("theo", "George"), "ensemble": ("piano", "piano trio")}
    assert asked(name, classes) == expected


def test_one_command_generates_with_a_model_and_evaluates_against_shards(tmp_path: Path) -> None:
    model, real = tiny_model(tmp_path / "tiny"), noises(tmp_path / "real", seed=0)
    for index in range(8):
        (real / f"{index}.json").write_text(json.dumps({"label": index}))
    assert hiss("data", "pack", real, "-o", tmp_path / "packed").exit_code == 0
    words = ("evaluate", "generation", "--model", model, "--reference", tmp_path / "packed" / "*.tar", "--json")
    result = hiss(*words, "--count", 3, "--train", real)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["clips"] == {"generated": 6, "reference": 8, "train": 8}
    assert set(report["class_accuracy"]["digit"]) == {"7", "8"}
    assert set(report["reference_accuracy"]) == {"digit"}
    assert hiss(*words, "--count", 3, "--train", real).stdout == result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "real", "tiny"]


def test_of_music_a_report_also_says_what_a_listener_notices(tmp_path: Path) -> None:
    folders = [noises(tmp_path / name, seed=seed, count=4) for seed, name in enumerate(("real", "made", "learned"))]
    words = ("evaluate", "generation", "--reference", folders[0], "--generated", folders[1], "--train", folders[2])
    table = hiss(*words, "--music", "--embedding", "tonal", "--excerpt", 0.25)
    assert table.exit_code == 0, table.output
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert all(
        title in table.stdout for title in ("on a note", "onsets, 1/s", "centroid, Hz", "the least and the most")
    )
    report = json.loads(hiss(*words, "--music", "--json").stdout)
    assert set(report["traits"]["generated"]) == set(report["traits"]["reference"])
    assert report["traits"]["generated"]["grid"]["median"] == pytest.approx(0.5, abs=0.2)
    assert set(report["shares"]) == {"instrument", "family", "kind", "ensemble", "composer"}


def test_a_model_can_be_asked_for_sounds_of_another_length(tmp_path: Path) -> None:
    model, real = tiny_model(tmp_path / "tiny"), noises(tmp_path / "real", seed=0)
    words = ("evaluate", "generation", "--model", model, "--reference", real, "--embedding", "logmel", "--json")
    report = json.loads(hiss(*words, "--count", 2, "--length", 0.4, "--excerpt", 0.1).stdout)
    assert report["clips"] == {"generated": 4, "reference": 8}
    assert report["excerpts"] == {"generated": 16, "reference": 40}


def test_evaluate_generation_refuses_what_it_cannot_compare(tmp_path: Path) -> None:
    real, few = noises(tmp_path / "real", seed=0), noises(tmp_path / "few", seed=1, count=2)
    words = ("evaluate", "generation", "--embedding", "logmel", "--reference")
    refused(hiss(*words, real, "--generated", "nowhere"), 1, says="there is no folder nowhere")
    refused(hiss(*words, "no-*.tar", "--generated", real), 1, says="no shard fits no-*.tar")
    refused(hiss(*words, real, "--generated", few), 1, says="at least 4")
    refused(hiss(*words, real, "--generated", real, "--embedding", "clop"), 2, says="unknown embedding 'clop'")
    refused(hiss(*words, real), 2, says="either by --generated FOLDER or by --model NAME")
    refused(hiss(*words, real, "--generated", real, "--model", "digits"), 2, says="either by --generated")
    refused(hiss(*words, real, "--generated", real, "--count", 3), 2, says="leave it out with --generated")
    refused(hiss(*words, real, "--generated", real, "--length", 3), 2, says="--length is about the sounds that --model")
    refused(hiss(*words, real, "--generated", real, "--excerpt", 0), 2, says="an excerpt lasts a positive number")
    refused(hiss(*words, real, "--model", "digitz"), 2, says="unknown model 'digitz'")
    refused(hiss(*words, real, "--model", tiny_model(tmp_path / "tiny"), "--count", 0), 2, says="count must be from 1")
