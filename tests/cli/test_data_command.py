"""hiss data: tones that are written can be looked at and packed, and what is wrong is refused."""

import json
from pathlib import Path

import pytest
from command_line import hiss, names, refused

from hiss.audio import Audio


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tones(*words: object) -> None:
    result = hiss("data", "synth", "-o", "tones", "-n", 3, "--seconds", 0.2, "--sample-rate", 8000, *words)
    assert result.exit_code == 0, result.output
    assert result.stdout == "tones\n"


def test_synth_writes_as_many_tones_as_asked() -> None:
    tones("--labelled", "--format", "flac")
    sounds = [name for name in names(Path("tones")) if name.endswith(".flac")]
    assert len(sounds) == 3
    assert Audio.load(Path("tones") / sounds[0]).samples.shape == (1, 1600)
    assert "note" in json.loads((Path("tones") / sounds[0]).with_suffix(".json").read_text())


def test_stats_tell_the_same_of_a_folder_and_of_its_shards() -> None:
    tones()
    assert hiss("data", "pack", "tones", "-o", "packed").stdout == "packed/packed-000000.tar\n"
    folder, shards = (json.loads(hiss("data", "stats", path, "--json").stdout) for path in ("tones", "packed"))
    assert folder["count"] == shards["count"] == 3
    assert folder["seconds"] == pytest.approx(0.6)
    assert shards["seconds"] == pytest.approx(0.6)


def test_stats_print_a_table_and_name_what_cannot_be_used() -> None:
    tones()
    Path("tones/broken.wav").write_bytes(b"no sound")
    result = hiss("data", "stats", "tones")
    assert result.exit_code == 0
    assert "8000 Hz: 3" in result.stdout
    assert "skipped broken.wav" in result.stderr


def test_wrong_use_of_data_commands_is_refused_in_one_sentence() -> None:
    refused(hiss("data", "synth"), 2, says="--output")
    refused(hiss("data", "synth", "-o", "x", "-n", 0), 2, says="at least one")
    refused(hiss("data", "synth", "-o", "x", "--high", 9000), 2, says="need more than 18000")
    refused(hiss("data", "synth", "-o", "x", "--seconds", -1), 2, says="not")
    refused(hiss("data", "synth", "-o", "x", "--format", "aac"), 2, says="unknown audio format 'aac'")
    refused(hiss("data", "stats", "nowhere"), 1, says="nowhere")
    refused(hiss("data", "pack", "nowhere", "-o", "x"), 1, says="nowhere")
    assert names(Path()) == []


def test_shards_do_not_replace_a_folder_with_something_in_it() -> None:
    tones()
    refused(hiss("data", "pack", "tones", "-o", "tones"), 1, says="tones is there already")
