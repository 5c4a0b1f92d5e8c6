"""Recordings to judge: read whole from folders and shards alike, with what they are said to be; damage is refused."""

import json
from pathlib import Path

import pytest
import torch

from hiss.audio import Audio
from hiss.data.tools import pack
from hiss.errors import HissError
from hiss.evaluation.clips import Clip, read_clips

CLASSES = {"digit": ("7", "8"), "speaker": ("theo", "george")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings that differ in everything."""
    folder = tmp_path / "sounds"
    (folder / "8").mkdir(parents=True)
    Audio(torch.full((2, 100), 0.2), 8000).save(folder / "b.wav")
    Audio(torch.full((300,), 0.1), 16000).save(folder / "8" / "a.flac")
    (folder / "b.json").write_text(json.dumps({"label": 7, "speaker": "theo"}))
    (folder / "notes.md").write_text("no audio")
    return folder


def test_folders_and_shards_give_the_same_recordings_as_they_are(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "packed")
    for place in (folder, tmp_path / "packed", tmp_path / "packed" / "*.tar"):
        a, b = read_clips(place)
        assert (a.name, a.audio.sample_rate, a.audio.samples.shape) == ("a", 16000, (1, 300))
        assert (b.name, b.audio.sample_rate, b.audio.samples.shape) == ("b", 8000, (2, 100))
        assert a.labels(CLASSES) == {"digit": "8"}
        assert b.labels(CLASSES) == {"digit": "7", "speaker": "theo"}


def test_a_path_may_begin_with_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDS", str(folder))
    assert len(read_clips("$SOUNDS")) == 2


def test_labels_that_are_no_class_are_none() -> None:
    clip = Clip("x", Audio(torch.zeros(1), 8000), {"label": "nine", "digit": 8, "speaker": "bob"})
    assert clip.labels(CLASSES) == {"digit": "8"}
    assert Clip("7-theo", clip.audio).labels(CLASSES) == {}


def test_a_damaged_recording_is_refused_not_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "c.wav").write_text("no sound")
    with pytest.raises(HissError, match=r"cannot evaluate .*c\.wav"):
        read_clips(folder)
    (folder / "c.wav").unlink()
    pack(folder, tmp_path / "packed")
    [shard] = (tmp_path / "packed").glob("*.tar")
    shard.write_bytes(shard.read_bytes().replace(b"fLaC", b"none"))
    with pytest.raises(HissError, match=r"cannot evaluate .*a in .*packed-000000\.tar: cannot read"):
        read_clips(shard)


def test_where_nothing_is_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(HissError, match=r"there is no folder .*none"):
        read_clips(tmp_path / "none")
    with pytest.raises(HissError, match="holds no audio file"):
        read_clips(tmp_path)
    with pytest.raises(HissError, match="no shard fits"):
        read_clips(tmp_path / "digits-*.tar")
