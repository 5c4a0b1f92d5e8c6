"""A folder of audio files: what is found, what is said about it, what is left out, and what is remembered."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hiss.audio import FORMATS, Audio
from hiss.data import index
from hiss.data.folder import AudioFolder, scan
from hiss.errors import HissError, UsageError
from hiss.types import Prompt


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HISS_CACHE", str(folder))
    return folder


def put(path: Path, *, rate: int = 8000, channels: int = 1, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.rand(channels, round(seconds * rate), generator=torch.Generator().manual_seed(0)) - 0.5
    Audio(noise, rate).save(path)
    return path


def prompts(folder: Path, **options: Any) -> dict[str, Prompt]:
    """Returns the prompt of each recording by its name."""
    data = AudioFolder(path=str(folder), **options).open(sample_rate=8000, channels=1, samples=800)
    found = [prompt for batch in data.once(1) for prompt in batch.prompts]
    return {data.source.recordings[i].key: prompt for i, prompt in zip(data.used, found, strict=True)}


def test_any_format_rate_and_channel_count_below_a_folder_is_found(tmp_path: Path) -> None:
    for format in FORMATS:
        put(tmp_path / "a" / format / f"x.{format}", rate=48000, channels=2)
    put(tmp_path / "UPPER.WAV", rate=11025)
    data = AudioFolder(path=str(tmp_path)).open(sample_rate=16000, channels=1, samples=1600)
    assert data.report.used == len(FORMATS) + 1
    assert data.report.skipped == []
    assert data.report.seconds == pytest.approx(0.1 * len(data), abs=0.01)
    assert next(data.batches(8, seed=0)).audio.shape == (8, 1, 1600)


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    (tmp_path / "._a.wav").write_text("a resource fork")
    put(tmp_path / ".trash" / "b.wav")
    assert [entry.key for entry in scan(tmp_path)[0]] == ["a.wav"]


def test_recordings_in_formats_that_are_not_read_are_named_unless_they_were_converted(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    put(tmp_path / "b.wav")
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x20ftypisom" * 99)
    (tmp_path / "deep.webm").mkdir()
    for name in ("c.M4A", "deep.webm/a.wma", "notes.pdf"):
        (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " * 99)
    entries, skipped = scan(tmp_path)
    assert [entry.key for entry in entries] == ["a.wav", "b.wav"]
    assert [name for name, _ in skipped] == ["c.M4A", "deep.webm/a.wma"]
    for ending, (_, reason) in zip(("m4a", "wma"), skipped, strict=True):
        assert reason.endswith(f"as audio: {ending} is not read here; convert it with ffmpeg")


# --- what is said about a recording ---


def test_a_text_file_of_the_same_name_is_the_caption(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text(" a dog, déjà vu \n", "utf-8")
    assert prompts(tmp_path)["a.wav"] == Prompt(text="a dog, déjà vu", start=0.0, total=0.1)


def test_a_json_file_of_the_same_name_gives_caption_and_labels(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    (tmp_path / "a.json").write_text(json.dumps({"text": "a dog", "label": 7, "who": "rex", "title": "Woof"}))
    labels = {"digit": "label", "speaker": "who"}
    assert prompts(tmp_path, labels=labels)["a.wav"].labels == {"digit": "7", "speaker": "rex"}
    assert prompts(tmp_path)["a.wav"].text == "a dog"
    assert prompts(tmp_path, caption="title")["a.wav"].text == "Woof"


@pytest.mark.parametrize("at", [".", "sub"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_gives_caption_and_labels_beside_or_above_the_files(ending: str, at: str, tmp_path: Path) -> None:
    put(tmp_path / "sub" / "a.wav")
    put(tmp_path / "sub" / "b.wav")
    prefix = "sub/" if at == "." else ""
    rows = [
        {"file_name": f"{prefix}a.wav", "text": "one, two", "label": "x"},
        {"file_name": f"{prefix}b.wav", "text": "", "label": "y"},
    ]
    table = tmp_path / at / f"metadata.{ending}"
    if ending == "csv":
        table.write_text(
            "file_name,text,label\n" + "".join(f'{r["file_name"]},"{r["text"]}",{r["label"]}\n' for r in rows)
        )
    else:
        table.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    found = prompts(tmp_path, labels={"kind": "label"})
    assert found["sub/a.wav"] == Prompt(text="one, two", labels={"kind": "x"}, start=0.0, total=0.1)
    assert found["sub/b.wav"] == Prompt(text=None, labels={"kind": "y"}, start=0.0, total=0.1)


def test_the_name_of_the_folder_is_a_label_if_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("cat/1.wav", "dog/1.wav", "loose.wav"):
        put(tmp_path / name)
    found = prompts(tmp_path, labels={"animal": "folder"})
    assert {key: dict(prompt.labels) for key, prompt in found.items()} == {
        "cat/1.wav": {"animal": "cat"},
        "dog/1.wav": {"animal": "dog"},
        "loose.wav": {},
    }


def test_a_metadata_key_that_nothing_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    (tmp_path / "a.json").write_text('{"label": 1, "text": "x"}')
    with pytest.raises(UsageError, match=r"unknown metadata key 'lable' .did you mean 'label'.*valid are: label, text"):
        prompts(tmp_path, labels={"digit": "lable"})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metadata.csv", "file,text\na.wav,x\n", "needs a file_name in every row"),
        ("metadata.jsonl", '{"text": "x"}\n', "needs a file_name in every row"),
        ("metadata.jsonl", "{broken\n", "cannot read the metadata"),
        ("metadata.csv", b"\xff\xfe\x00", "cannot read the metadata"),
    ],
)
def test_a_table_that_is_none_is_refused(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HissError, match=said):
        prompts(tmp_path)


# --- what is chosen ---


@pytest.fixture
def genres(tmp_path: Path) -> Path:
    """Returns a folder laid out like GTZAN, with its broken file."""
    folder = tmp_path / "genres_original"
    for genre, ending in (("blues", "wav"), ("classical", "au"), ("jazz", "wav")):
        for number in range(3):
            path = folder / genre / f"{genre}.{number:05d}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.full(800, 0.5), 8000, subtype="PCM_16")
    (folder / "jazz" / "jazz.00054.wav").write_bytes(b"no header" * 99)
    return folder


@pytest.mark.parametrize("chosen", [["classical"], ["blues", "jazz"]])
def test_folders_can_be_chosen_by_name(chosen: list[str], genres: Path) -> None:
    config = AudioFolder.from_dict(
        {"name": "folder", "path": str(genres), "labels": {"genre": "folder"}, "only": {"folder": chosen}}
    )
    assert AudioFolder.from_dict(config.to_dict()) == config
    data = config.open(sample_rate=8000, channels=1, samples=800)
    assert Counter(prompt.labels["genre"] for prompt in next(data.once(99)).prompts) == dict.fromkeys(chosen, 3)
    ((name, reason),) = data.report.skipped
    assert name == "jazz/jazz.00054.wav"
    assert "Format not recognised" in reason


def test_all_conditions_must_hold_and_values_are_compared_as_text(tmp_path: Path) -> None:
    for name, take in (("a/1", 1), ("a/2", 2), ("b/1", 1)):
        put(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.json").write_text(json.dumps({"take": take}))
    put(tmp_path / "none.wav")
    assert list(prompts(tmp_path, only={"take": ("1",)})) == ["a/1.wav", "b/1.wav"]
    assert list(prompts(tmp_path, only={"take": ("1",), "folder": ("a",)})) == ["a/1.wav"]


@pytest.mark.parametrize(
    ("only", "said"),
    [
        (
            {"folder": ("clasical",)},
            r"unknown folder in only 'clasical' \(did you mean 'classical'\?\); valid are: blues, c",
        ),
        ({"genre": ("classical",)}, r"unknown metadata key 'genre'; valid are: folder"),
        ({"folder": ()}, r"has no recording to use"),
    ],
)
def test_a_choice_that_nothing_meets_is_refused(only: dict[str, tuple[str, ...]], said: str, genres: Path) -> None:
    with pytest.raises(HissError, match=said):
        prompts(genres, only=only)


def test_of_a_single_recording_nothing_can_be_held_out(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    config = AudioFolder(path=str(tmp_path), holdout=0.1)
    assert config.open(sample_rate=8000, channels=1, samples=800, split="train").report.used == 1
    with pytest.raises(HissError, match=r"the validation split of the folder .* has no recording to use; give more"):
        config.open(sample_rate=8000, channels=1, samples=800, split="validation")


def test_only_what_is_of_the_split_is_kept_in_memory(tmp_path: Path) -> None:
    for name in "abcdefgh":
        put(tmp_path / f"{name}.wav")
    kept = []
    for split in ("train", "validation"):
        plain, cached = (
            AudioFolder(path=str(tmp_path), holdout=0.5, cache=cache).open(
                sample_rate=8000, channels=1, samples=800, split=split
            )
            for cache in (False, True)
        )
        assert torch.equal(next(plain.batches(4, seed=0)).audio, next(cached.batches(4, seed=0)).audio)
        kept.append(len(cached.source.recordings))
    assert min(kept) > 0
    assert sum(kept) == 8


def test_a_group_key_that_no_recording_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abcdefgh":
        put(tmp_path / f"{name}.wav")
    alone, grouped = (
        AudioFolder(path=str(tmp_path), holdout=0.5, group_key=key).open(
            sample_rate=8000, channels=1, samples=800, split="validation"
        )
        for key in (None, "work")
    )
    assert grouped.report.used == alone.report.used
    assert "no recording has the metadata key 'work'" in caplog.text


# --- what is left out ---


def test_damaged_files_are_left_out_and_named_with_their_reason(tmp_path: Path) -> None:
    for name in ("good", "half", "json", "list"):
        put(tmp_path / f"{name}.flac")
    content = (tmp_path / "half.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.wav").write_text("this is no sound\n" * 99)
    (tmp_path / "zero.wav").touch()
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    put(tmp_path / "three.wav", channels=3)
    (tmp_path / "json.json").write_text("{broken")
    (tmp_path / "list.json").write_text("[1]")
    data = AudioFolder(path=str(tmp_path)).open(sample_rate=8000, channels=2, samples=100)
    assert data.report.used == 1
    reasons = dict(data.report.skipped)
    assert reasons.keys() == {
        *("half.flac", "text.wav", "zero.wav", "empty.wav", "nan.wav", "three.wav", "json.flac", "list.flac"),
    }
    assert "holds no samples" in reasons["empty.wav"]
    assert "NaN" in reasons["nan.wav"]
    assert "has 3 channels, not 1 or 2" in reasons["three.wav"]
    assert "Format not recognised" in reasons["text.wav"]
    assert "unreadable metadata" in reasons["json.flac"]
    assert "list.json is no JSON object" in reasons["list.flac"]


def test_recordings_of_one_sample_work_and_those_of_none_at_the_new_rate_are_left_out(tmp_path: Path) -> None:
    Audio(torch.tensor([0.5]), 8000).save(tmp_path / "a.wav")
    data = AudioFolder(path=str(tmp_path)).open(sample_rate=8000, channels=1, samples=100)
    batch = next(data.batches(2, seed=0))
    assert batch.lengths.tolist() == [1, 1]
    with pytest.raises(HissError, match=r"the first: a\.wav: has no sample at 4000 Hz"):
        AudioFolder(path=str(tmp_path)).open(sample_rate=4000, channels=1, samples=100)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "there is no folder .*; give a folder with audio files"),
        (lambda folder: folder.mkdir(), r"holds no audio file; looked for wav, flac, .* in it and below"),
        (lambda folder: folder.touch(), "there is no folder"),
    ],
)
def test_a_folder_that_is_missing_or_empty_says_what_was_looked_for(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "data")
    with pytest.raises(HissError, match=said):
        prompts(tmp_path / "data")


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "a.wav")
    data = AudioFolder(path=str(tmp_path)).open(sample_rate=8000, channels=1, samples=100)
    path.unlink()
    with pytest.raises(HissError, match=r"cannot read .*a\.wav"):
        next(data.batches(1, seed=0))


def test_a_path_may_begin_with_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "sub" / "a.wav")
    monkeypatch.setenv("SOUNDS", str(tmp_path))
    for path in ("$SOUNDS/sub", "${SOUNDS}/sub"):
        assert AudioFolder(path=path).open(sample_rate=8000, channels=1, samples=10).report.used == 1
    monkeypatch.delenv("SOUNDS")
    with pytest.raises(HissError, match="needs the environment variable SOUNDS, which is not set"):
        AudioFolder(path="$SOUNDS/sub").open(sample_rate=8000, channels=1, samples=10)


# --- what is remembered ---


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read through."""
    names: list[str] = []
    look = index.look

    def watched(path: Path) -> index.Facts:
        names.append(path.name)
        return look(path)

    monkeypatch.setattr(index, "look", watched)
    return names


def test_a_file_is_read_through_again_only_when_it_changed(tmp_path: Path, looks: list[str]) -> None:
    a, b = put(tmp_path / "a.wav"), put(tmp_path / "b.wav")
    (tmp_path / "c.wav").write_text("no sound")
    first = scan(tmp_path)
    assert sorted(looks) == ["a.wav", "b.wav", "c.wav"]
    looks.clear()
    assert scan(tmp_path) == first
    assert looks == []
    put(a, seconds=0.2)
    b.unlink()
    (entry,) = scan(tmp_path)[0]
    assert looks == ["a.wav"]
    assert entry.facts.seconds == 0.2
    os.utime(a, (1, 1))
    scan(tmp_path)
    assert looks == ["a.wav", "a.wav"]


@pytest.mark.parametrize("content", ["{broken", "[]", '{"version": 1}', '{"version": 1, "files": {"a.wav": [1]}}'])
def test_a_damaged_cache_only_costs_time(content: str, cache: Path, tmp_path: Path, looks: list[str]) -> None:
    put(tmp_path / "a.wav")
    scan(tmp_path)
    (file,) = (cache / "index").iterdir()
    file.write_text(content)
    assert len(scan(tmp_path)[0]) == 1
    assert len(scan(tmp_path)[0]) == 1
    assert looks == ["a.wav", "a.wav"]


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "data" / "a.wav")
    (tmp_path / "file").touch()
    monkeypatch.setenv("HISS_CACHE", str(tmp_path / "file" / "below"))
    assert len(scan(tmp_path / "data")[0]) == len(scan(tmp_path / "data")[0]) == 1
    assert looks == ["a.wav", "a.wav"]


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISS_CACHE", "/a")
    assert index.cache_folder() == Path("/a")
    monkeypatch.delenv("HISS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert index.cache_folder() == Path("/b/hiss")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert index.cache_folder() == Path.home() / ".cache" / "hiss"


def test_facts_are_exact_for_a_recording_that_comes_in_blocks() -> None:
    loud, quiet = np.full((2048, 2), 0.5, np.float32), np.full((2048, 2), 1e-4, np.float32)
    facts = index.measure([loud, quiet], 8000)
    assert (facts.frames, facts.channels, facts.sample_rate, facts.seconds) == (4096, 2, 8000, 0.512)
    assert facts.rms == pytest.approx((0.125) ** 0.5, abs=1e-6)
    assert (facts.peak, facts.silence) == (0.5, 0.5)


def test_a_flac_file_that_does_not_say_its_length_is_read(tmp_path: Path) -> None:
    audio = Audio(torch.rand(1, 3000) - 0.5, 8000)
    content = bytearray(audio.encode("flac"))
    content[21] &= 0xF0  # the last 36 of the bits 108 to 143 of STREAMINFO are the number of samples
    (tmp_path / "streamed.flac").write_bytes(content[:22] + bytes(4) + content[26:])
    data = AudioFolder(path=str(tmp_path), crop="start").open(sample_rate=8000, channels=1, samples=2000)
    assert data.report.seconds == pytest.approx(3000 / 8000)
    torch.testing.assert_close(next(data.batches(1, seed=0)).audio[0], audio.samples[:, :2000], atol=1e-4, rtol=0)
