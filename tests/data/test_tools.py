"""Making, looking at and packing data."""

import errno
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hiss.audio import Audio
from hiss.data import tools
from hiss.data.folder import AudioFolder
from hiss.data.shards import Shards
from hiss.data.tars import samples
from hiss.data.tones import SyntheticTones
from hiss.data.tools import pack, stats, synthesize
from hiss.errors import HissError, UsageError


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISS_CACHE", str(tmp_path_factory.mktemp("cache")))


def folder(path: Path) -> Path:
    """Returns a folder with a second that is half silent, half a second in stereo, and a broken file."""
    path.mkdir()
    square = torch.full((8192,), 0.5)
    square[4096:] = 0
    Audio(square, 8192).save(path / "a.wav")
    Audio(torch.full((2, 8000), 0.25), 16000).save(path / "b.flac")
    (path / "a.json").write_text('{"text": "half", "label": 3}')
    (path / "c.wav").write_text("no sound")
    return path


def test_synthesized_tones_are_those_of_the_data_set(tmp_path: Path) -> None:
    config = SyntheticTones(examples=5, labelled=True)
    paths = synthesize(tmp_path / "new" / "tones", config, seconds=0.5, sample_rate=8000)
    assert [path.name for path in paths] == [f"tone-{number:05d}.wav" for number in range(5)]
    data = AudioFolder(path=str(tmp_path / "new" / "tones"), labels={"note": "note"})
    ours = next(data.open(sample_rate=8000, channels=1, samples=4000).once(5))
    theirs = next(config.open(sample_rate=8000, channels=1, samples=4000).once(5))
    torch.testing.assert_close(ours.audio, theirs.audio, atol=2**-14, rtol=0)
    assert [prompt.labels for prompt in ours.prompts] == [prompt.labels for prompt in theirs.prompts]


def test_tones_are_not_synthesized_where_or_how_they_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HissError, match="cannot make the folder"):
        synthesize(tmp_path / "file" / "tones")
    with pytest.raises(UsageError, match="unknown audio format 'wave'"):
        synthesize(tmp_path / "tones", format="wave")
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="tones last above 0 seconds"):
            synthesize(tmp_path / "tones", seconds=seconds)
    assert not (tmp_path / "tones").exists()


def check(found: tools.Stats, broken: str) -> None:
    assert (found.count, found.seconds, found.shortest, found.longest) == (2, 1.5, 0.5, 1.0)
    assert found.sample_rates == {8192: 1, 16000: 1}
    assert found.channels == {1: 1, 2: 1}
    assert found.levels["50 %"] == pytest.approx((-9.03 - 12.04) / 2, abs=0.01)
    assert found.levels["5 %"] < found.levels["50 %"] < found.levels["95 %"]
    assert found.peak == pytest.approx(0.5, abs=1e-4)
    assert found.silence == pytest.approx(1 / 3, abs=1e-6)
    assert found.keys["label"] == found.keys["text"] == 1
    assert [name for name, _ in found.skipped] == [broken]


def test_stats_of_a_folder_are_exact(tmp_path: Path) -> None:
    check(stats(folder(tmp_path / "data")), "c.wav")


def test_stats_of_shards_are_those_of_the_folder(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    packed = pack(data, tmp_path / "out")
    with tarfile.open(packed.shards[0], "a") as tar:  # pack left out what is broken
        member = tarfile.TarInfo("c.wav")
        member.size = 8
        tar.addfile(member, io.BytesIO(b"no sound"))
    check(stats(tmp_path / "out"), "c")
    check(stats(str(packed.shards[0])), "c")


def test_stats_of_nothing_say_so(tmp_path: Path) -> None:
    with pytest.raises(HissError, match="there is no shard"):
        stats(tmp_path / "none")
    with pytest.raises(HissError, match="holds no audio file"):
        stats(tmp_path)
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(HissError, match=r"no recording can be used, 1 were skipped; the first: a\.wav"):
        stats(tmp_path)


def test_silence_has_statistics_too(tmp_path: Path) -> None:
    Audio(torch.zeros(100), 8000).save(tmp_path / "a.wav")
    found = stats(tmp_path)
    assert (found.levels, found.peak, found.silence) == ({}, 0.0, 1.0)


def test_packed_shards_hold_the_same_bytes_and_metadata_and_read_the_same(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    packed = pack(data, tmp_path / "out")
    assert [path.name for path in packed.shards] == ["out-000000.tar"]
    assert packed.count == 2
    assert [name for name, _ in packed.skipped] == ["c.wav"]
    first, second = samples(str(packed.shards[0]))
    assert first.members["wav"] == (data / "a.wav").read_bytes()
    assert json.loads(first.members["json"]) == {"text": "half", "label": 3}
    assert second.key == "b"
    options: dict[str, Any] = {"sample_rate": 16000, "channels": 2, "samples": 4000}
    one = next(AudioFolder(path=str(data), labels={"x": "label"}).open(**options).batches(6, seed=0))
    other = next(Shards(path=str(tmp_path / "out"), labels={"x": "label"}).open(**options).batches(6, seed=0))
    assert one.prompts == other.prompts
    torch.testing.assert_close(one.audio, other.audio, atol=1e-4, rtol=0)  # a part resampled, and the whole


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    one, other = pack(data, tmp_path / "one" / "x"), pack(data, tmp_path / "other" / "x")
    assert one.shards[0].read_bytes() == other.shards[0].read_bytes()


def test_shards_are_split_by_size_and_keys_stay_unique(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a.1.wav", "a_1.wav", "a.1.flac", "sub.x/a.1.wav"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Audio(torch.zeros(8000), 8000).save(data / name)
    packed = pack(data, tmp_path / "out", shard_mb=0.02)
    keys = [sample.key for shard in packed.shards for sample in samples(str(shard))]
    assert sorted(keys) == ["a_1", "a_1-2", "a_1-3", "sub.x/a_1"]
    assert len(packed.shards) == 3


def test_a_pack_is_not_written_over_another_and_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data")
    with pytest.raises(HissError, match="is there already"):
        pack(data, data)
    with pytest.raises(UsageError, match="more than 0 MB"):
        pack(data, tmp_path / "out", shard_mb=0)
    with pytest.raises(HissError, match="cannot write"):
        pack(data, data / "a.wav" / "out")

    def full(path: Path, group: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tools, "_write_shard", full)
    with pytest.raises(HissError, match="No space left on device"):
        pack(data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_with_nothing_usable_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(HissError, match=r"no audio file in .* can be used; the first: a\.wav"):
        pack(tmp_path, tmp_path / "out")
