"""hiss evaluate text: finished sounds and those of a model, its table and its JSON, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from command_line import hiss, refused, tiny_model, tiny_reader

from hiss.audio import Audio

CAPTIONS = ("a slow low A, quietly", "a fast middle C, loudly", "a low A, loudly", "a slow middle C, quietly")


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Writes a tone for each caption, with what it is."""
    folder = tmp_path / "tones"
    folder.mkdir()
    time = torch.arange(8000) / 8000
    for index, caption in enumerate(CAPTIONS):
        wave = torch.sin(2 * torch.pi * (220 if "A" in caption else 262) * time)
        Audio((0.8 if "loudly" in caption else 0.1) * wave, 8000).save(folder / f"{index}.wav")
        told = {"text": caption, "kind": caption.split(",")[1].strip()}
        (folder / f"{index}.json").write_text(json.dumps(told))
    return folder


def test_finished_sounds_are_compared_with_their_captions(tones: Path) -> None:
    words = ("evaluate", "text", "--reference", tones, "--generated", tones, "--embedding", "logmel")
    table = hiss(*words)
    assert table.exit_code == 0, table.output
    assert table.stdout.split()[:3] == ["generated", "real", "shuffled"]
    first = [line.split()[0] for line in table.stdout.splitlines() if line.strip()]
    assert {"pitch", "tempo", "loudness", "FAD", "KAD", "kind", "loudly", "quietly"} <= set(first)
    assert max(map(len, table.stdout.splitlines())) <= 80
    report = json.loads(hiss(*words, "--json").stdout)
    assert report["figures"]["pitch"] == {"generated": 1, "real": 1, "shuffled": report["figures"]["pitch"]["shuffled"]}
    assert report["figures"]["loudness"]["generated"] == 1
    assert "clap" not in report["figures"]


def test_a_model_makes_what_is_judged_by_a_clap(tones: Path, tmp_path: Path) -> None:
    model = tiny_reader(tmp_path, *CAPTIONS)
    made = ("--model", model, "--clap", tmp_path / "clap", "--embedding", "logmel")
    result = hiss("evaluate", "text", "--reference", tones, *made, "--count", 2, "--seeds", 2, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["generation"]["clips"] == {"generated": 4, "reference": 4}
    assert -1 <= report["figures"]["clap"]["generated"] <= 1
    assert report["diversity"] is not None


def test_wrong_use_is_refused(tones: Path, tmp_path: Path) -> None:
    words = ("evaluate", "text", "--reference", tones, "--embedding", "logmel")
    refused(hiss(*words), 2, says="either by --generated FOLDER or by --model NAME")
    for option, value in (("--count", 3), ("--sampler", "euler")):
        refused(hiss(*words, "--generated", tones, option, value), 2, says="are for --model")
    refused(hiss(*words, "--model", tiny_model(tmp_path / "tiny")), 2, says="reads no text")
    made = ("--model", tiny_reader(tmp_path, *CAPTIONS), "--sampler", "walk")
    refused(hiss(*words, *made), 2, says="unknown sampler 'walk'")
    refused(hiss(*words, "--generated", tones, "--clap", tones), 1, says="is no model folder")
    (tones / "0.json").unlink()
    refused(hiss(*words, "--generated", tones), 2, says="1 of 4 generated recordings have no caption")
