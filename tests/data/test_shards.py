"""WebDataset shards: patterns, members, damage, streams, and the packs that come with the project's data."""

import functools
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from hiss.audio import Audio
from hiss.data import Dataset
from hiss.data.shards import Shards
from hiss.data.tars import Sample, expand, samples
from hiss.errors import HissError, UsageError
from hiss.types import Prompt


def sound(seed: int = 0, *, rate: int = 8000, format: str = "flac", count: int = 800) -> bytes:
    return Audio(torch.rand(count, generator=torch.Generator().manual_seed(seed)) - 0.5, rate).encode(format)


def write(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, **{"mode": "w", **options}) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def opened(path: Path | str, *, cache: bool | None = True, samples: int = 800, **options: object) -> Dataset:
    config = Shards.from_dict({"name": "shards", "path": str(path), "cache": cache, **options})
    return config.open(sample_rate=8000, channels=1, samples=samples)


def prompts(data: Dataset) -> list[Prompt]:
    return [prompt for batch in data.once(3) for prompt in batch.prompts]


def test_members_of_one_key_make_one_sample(tmp_path: Path) -> None:
    shard = write(
        tmp_path / "a.tar",
        {"x/1.flac": b"a", "x/1.json": b"b", "x/2.seg.WAV": b"c", "./3.txt": b"d", ".hidden": b"e", "bare": b"f"},
    )
    assert list(samples(str(shard))) == [
        Sample("x/1", {"flac": b"a", "json": b"b"}),
        Sample("x/2", {"seg.wav": b"c"}),
        Sample("./3", {"txt": b"d"}),
    ]


LONG = "folder/" * 20 + "b"
MEMBERS = {"a.wav": b"a" * 700, "a.json": b"{}", f"{LONG}.wav": b"b" * 512, f"{LONG}.json": b""}
BOTH = [Sample("a", {"wav": b"a" * 700, "json": b"{}"}), Sample(LONG, {"wav": b"b" * 512, "json": b""})]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archives_of_every_form_are_read(form: int, mode: str, tmp_path: Path) -> None:
    assert list(samples(str(write(tmp_path / "a.tar", MEMBERS, mode=mode, format=form)))) == BOTH


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_archives_of_gnu_tar_are_read(form: str, tmp_path: Path) -> None:
    tar = shutil.which("tar")
    if tar is None or b"GNU tar" not in subprocess.run([tar, "--version"], check=True, stdout=subprocess.PIPE).stdout:
        pytest.skip("GNU tar is not here")
    names = [name for name in MEMBERS if form != "v7" or len(name) < 100]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(MEMBERS[name])
    subprocess.run([tar, "-c", f"--format={form}", "-f", "x.tar", *names], cwd=tmp_path, check=True)
    assert list(samples(str(tmp_path / "x.tar"))) == BOTH[: len(names) // 2]


def test_one_block_of_zeros_is_an_end_too(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {"a.wav": b"a"})
    shard.write_bytes(shard.read_bytes()[: 3 * 512])  # header, content, zeros
    assert list(samples(str(shard))) == [Sample("a", {"wav": b"a"})]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_shard_that_was_cut_off_anywhere_says_so(form: int, tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", MEMBERS, format=form)
    content = shard.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512  # of the last header
    for length in range(0, end + 1, 64):
        shard.write_bytes(content[:length])
        found: list[Sample] = []
        with pytest.raises(HissError, match=f"cannot read the shard {shard}: "):
            found.extend(samples(str(shard)))
        assert found in ([], BOTH[:1])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_damaged_header_is_no_end(form: int, tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", MEMBERS, format=form)
    with tarfile.open(shard) as tar:
        starts = [member.offset for member in tar]
    content = shard.read_bytes()
    for start in starts:
        for place in (0, 100, 130, 150, 156):  # name, mode, size, checksum, type
            damaged = bytearray(content)
            damaged[start + place] ^= 1
            shard.write_bytes(damaged)
            with pytest.raises(HissError, match=rf"bad checksum at byte {start}; it is damaged or was cut off"):
                list(samples(str(shard)))


@pytest.mark.parametrize("cache", [True, False])
def test_a_sample_that_lost_its_metadata_is_not_used(cache: bool, tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {"a.flac": sound(), "a.json": b'{"who": 1}', "b.flac": sound()})
    with tarfile.open(shard) as tar:
        starts = {member.name: member.offset for member in tar}
    write(tmp_path / "b.tar", {"c.flac": sound(), "c.json": b'{"who": 2}'})
    shard.write_bytes(shard.read_bytes()[: starts["a.json"]])
    data = opened(tmp_path, cache=cache, labels={"who": "who"})
    assert [prompt.labels for prompt in prompts(data)] == [{"who": "2"}]
    [(name, reason)] = data.report.skipped
    assert name == str(shard)
    assert "empty header" in reason


@pytest.mark.parametrize("cache", [True, False])
def test_each_second_can_be_as_likely_as_any_other(tmp_path: Path, cache: bool) -> None:
    lengths = {"short": 300, "window": 800, "long": 2800}  # samples; a window has 800
    shard = write(tmp_path / "a.tar", {f"{name}.flac": sound(count=count) for name, count in lengths.items()})
    recordings, seconds = (opened(shard, cache=cache, each=each) for each in ("recording", "second"))
    one, other = next(recordings.batches(3, seed=0)), next(seconds.batches(6, seed=0))
    assert sorted(round(8000 * (prompt.total or 0)) for prompt in one.prompts) == [300, 800, 2800]
    assert sorted(round(8000 * (prompt.total or 0)) for prompt in other.prompts) == [300, 800, *[2800] * 4]
    assert len({prompt.start for prompt in other.prompts if prompt.total == 0.35}) == 4
    assert len(prompts(seconds)) == 3
    assert recordings.size == (3 if cache else None)
    assert seconds.size == (6 if cache else None)


def test_the_clips_of_a_recording_are_spread_over_the_batches_of_a_stream(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {f"{key}.flac": sound(key, count=8000 + key) for key in range(4)})

    def drawn(shuffle: int = 1000) -> list[int]:
        data = opened(shard, cache=False, each="second", shuffle=shuffle)
        found = [prompt for batch in islice(data.batches(4, seed=0), 10) for prompt in batch.prompts]
        return [round(8000 * (prompt.total or 0)) - 8000 for prompt in found]

    spread = drawn()
    assert sorted(spread) == sorted(list(range(4)) * 10)
    assert all(len(set(spread[first : first + 4])) > 1 for first in range(0, 40, 4))
    assert spread == drawn()
    assert drawn(shuffle=1) == sorted(spread)


@pytest.mark.parametrize("cache", [True, False])
def test_only_what_is_of_the_split_is_decoded(tmp_path: Path, cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = (b'{"who": null}', b'{"who": ""}', b"{}")
    members = {f"{key}.flac": sound(key) for key in range(20)}
    members |= {f"{key}.json": metadata[key % 3] for key in range(20)}
    shard = write(tmp_path / "a.tar", dict(sorted(members.items())))
    decoded: list[str] = []
    audio = Sample.audio

    def watched(sample: Sample) -> Audio:
        decoded.append(sample.key)
        return audio(sample)

    monkeypatch.setattr(Sample, "audio", watched)
    config = Shards(path=str(shard), cache=cache, holdout=0.3, group_key="who")
    used = []
    for split in ("train", "validation"):
        decoded.clear()
        data = config.open(sample_rate=8000, channels=1, samples=800, split=split)
        assert len(prompts(data)) == len(decoded) == data.report.used
        used.append(data.report.used)
    assert sum(used) == 20
    assert 1 < used[1] < 13  # what has no group is held out by itself


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("format", ["flac", "wav", "ogg", "mp3", "opus"])
def test_audio_of_any_format_comes_with_caption_and_labels(format: str, cache: bool, tmp_path: Path) -> None:
    metadata = json.dumps({"text": "seven", "label": 7, "speaker": "theo", "none": None}).encode()
    shard = write(
        tmp_path / "a.tar",
        {
            f"1.{format}": sound(format=format, rate=16000, count=1600),
            "1.json": metadata,
            f"2.{format}": sound(1, format=format, rate=16000, count=1600),
            "2.txt": b"only a text\n",
        },
    )
    data = opened(shard, cache=cache, labels={"digit": "label", "speaker": "speaker"})
    assert prompts(data) == [
        Prompt(text="seven", labels={"digit": "7", "speaker": "theo"}, start=0.0, total=0.1),
        Prompt(text="only a text", start=0.0, total=0.1),
    ]
    assert next(data.batches(2, seed=0)).lengths.tolist() == [800, 800]


@pytest.mark.parametrize("cache", [True, False])
def test_damaged_samples_and_broken_shards_are_left_out_and_named(cache: bool, tmp_path: Path) -> None:
    members = {
        "good.flac": sound(),
        "text.flac": b"no sound" * 99,
        "half.flac": sound()[:300],
        "bare.json": b"{}",
        "json.flac": sound(),
        "json.json": b"{broken",
    }
    write(tmp_path / "a.tar", members)
    three = {"1.flac": sound(1), "2.flac": sound(2), "3.flac": sound(3, count=8000)}
    whole = write(tmp_path / "b.tar", three).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:8000])  # within the third, so that the second may be incomplete
    (tmp_path / "c.tar").write_bytes(b"no tar" * 999)
    data = opened(tmp_path, cache=cache)
    assert len(prompts(data)) == 2
    assert data.report.used == 2
    reasons = {name.rpartition("/")[2]: reason for name, reason in data.report.skipped}
    assert reasons.keys() == {"text", "half", "bare", "json", "b.tar", "c.tar"}
    assert "has no audio among its members (json)" in reasons["bare"]
    assert "cannot read the shard" in reasons["c.tar"]


@pytest.mark.parametrize("cache", [True, False])
def test_shards_of_which_nothing_can_be_used_say_why(cache: bool, tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {"1.flac": b"no sound"})
    with pytest.raises(HissError, match=r"no recording to use, 1 were skipped; the first: 1: cannot read"):
        next(opened(shard, cache=cache).batches(1, seed=0))


def test_a_metadata_key_that_no_sample_has_is_refused(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", {"1.flac": sound(), "1.json": b'{"label": 1}'})
    with pytest.raises(UsageError, match=r"unknown metadata key 'labels' .did you mean 'label'"):
        opened(shard, labels={"digit": "labels"})


@pytest.mark.parametrize("cache", [True, False])
def test_samples_can_be_chosen_by_what_their_metadata_say(cache: bool, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for key, genre in (("1", "jazz"), ("2", "blues"), ("3", "jazz")):
        members |= {f"{key}.flac": sound(), f"{key}.json": json.dumps({"genre": genre, "n": key}).encode()}
    shard = write(tmp_path / "a.tar", members | {"4.flac": sound()})
    data = opened(shard, cache=cache, labels={"n": "n"}, only={"genre": ["jazz"]})
    assert [prompt.labels["n"] for prompt in prompts(data)] == ["1", "3"]
    assert data.report.skipped == []
    with pytest.raises(HissError, match="valid are: blues, jazz" if cache else "has no recording to use"):
        next(opened(shard, cache=cache, only={"genre": ["rock"]}).batches(1, seed=0))


def test_patterns_are_written_out_and_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a-000009.tar", "a-000010.tar", "b-000009.tar"):
        (tmp_path / name).touch()

    def found(pattern: str) -> list[str]:
        return [Path(name).name for name in expand(f"{tmp_path}/{pattern}")]

    assert found("a-{000009..000010}.tar") == ["a-000009.tar", "a-000010.tar"]
    assert found("{a,b}-{000009..000009}.tar") == ["a-000009.tar", "b-000009.tar"]
    assert found("?-000009.tar") == ["a-000009.tar", "b-000009.tar"]
    assert found("") == found("*.tar") == ["a-000009.tar", "a-000010.tar", "b-000009.tar"]
    assert expand(f"{tmp_path.parent}/*[0-9]/?-000010.tar") == [f"{tmp_path}/a-000010.tar"]
    monkeypatch.chdir(tmp_path)
    assert expand("b*.tar") == ["b-000009.tar"]
    assert expand("https://host/a-{8..11}.tar") == [f"https://host/a-{number}.tar" for number in (8, 9, 10, 11)]
    with pytest.raises(HissError, match=r"there is no shard .*a-000011\.tar"):
        found("a-{000009..000011}.tar")
    with pytest.raises(HissError, match="no shard fits"):
        found("c-*.tar")


def test_a_buffer_of_no_size_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, not 0"):
        Shards(path="x", shuffle=0)


def test_a_stream_is_shuffled_within_its_buffer(tmp_path: Path) -> None:
    members = {
        f"{number:02d}.{ending}": content
        for number in range(30)
        for ending, content in (("flac", sound(number)), ("json", json.dumps({"label": number}).encode()))
    }
    shard = write(tmp_path / "a.tar", members)
    data = opened(shard, cache=False, labels={"n": "label"}, shuffle=5)
    one, two = (
        [
            int(prompt.labels["n"])
            for batch in islice(data.batches(10, seed=0, start=start), 3)
            for prompt in batch.prompts
        ]
        for start in (0, 3)
    )
    assert sorted(one) == sorted(two) == list(range(30))
    assert one != two
    assert one != list(range(30))
    assert all(number <= place + 4 for place, number in enumerate(one))  # none can come before it was read


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_shards_are_streamed_over_http_and_kept_in_memory_if_asked(server: str, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    if shutil.which("curl") is None:
        pytest.skip("webdataset reads over HTTP with curl, which is not here")
    write(tmp_path / "a-0.tar", {"1.flac": sound(1)})
    write(tmp_path / "a-1.tar", {"2.flac": sound(2)})
    local = [batch.audio for batch in opened(tmp_path).once(2)]
    for cache in (None, True):
        data = opened(f"{server}/a-{{0..1}}.tar", cache=cache)
        assert torch.equal(next(data.once(2)).audio, local[0])


def test_the_digits_pack_reads_as_it_is_described() -> None:
    if not os.environ.get("HISS_DATA"):
        pytest.skip("HISS_DATA is not set: no data packs")
    config = Shards(
        path="$HISS_DATA/digits/digits-test-*.tar",
        validation="$HISS_DATA/digits/digits-test-*.tar",
        labels={"digit": "label", "speaker": "speaker"},
        level=-22.0,
    )
    for split in ("train", "validation"):
        data = config.open(sample_rate=8000, channels=1, samples=8000, split=split)
        assert (data.report.used, data.report.skipped) == (300, [])
        found = prompts(data)
        assert {prompt.labels["digit"] for prompt in found} == set("0123456789")
        assert len({prompt.labels["speaker"] for prompt in found}) == 6
        assert all(prompt.text for prompt in found)
