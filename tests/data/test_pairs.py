"""Pairs of clean and noisy folders: what belongs together, what is made, what is cut and what is held out."""

import json
from itertools import islice
from math import log10
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.data.pairs import Paired, Pairs, Segments
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.signal.mixing import level
from hiss.types import Batch

RATE = 8000
SAMPLES = 1000
SECONDS = (0.1, 0.125, 0.3, 0.5)
"""Of the recordings in `gt_audio`, named by their number."""

# Python 3.12 warns when a process with threads forks, which is how workers start.
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `gt_audio`, and none of noisy recordings."""
    monkeypatch.setenv("HISS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "data" / "gt_audio")
    return tmp_path / "data"


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, seconds in enumerate(SECONDS):
        Audio(0.2 * torch.rand(round(seconds * RATE), generator=seeded(index)) + 0.1 * index, RATE).save(
            folder / f"{index}.wav"
        )


def opened(path: Path, split: Any = "all", **options: Any) -> Paired:
    return Pairs(path=str(path), **options).open(sample_rate=RATE, channels=1, samples=SAMPLES, split=split)


def noisy(batch: Batch) -> Tensor:
    """Returns the noisy recordings [batch, channels, samples]."""
    return torch.stack([prompt.recording for prompt in batch.prompts if prompt.recording is not None])


def all_of(data: Paired) -> Batch:
    (batch,) = data.once(100)
    return batch


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json")


def test_missing_noisy_recordings_are_made_at_the_snr_asked_for_and_kept(root: Path) -> None:
    opened(root, snr=(3.0, 9.0), seed=5)
    assert names(root) == ["gl_audio", "gt_audio"]
    assert names(root / "gl_audio") == [f"noisy_{index}.wav" for index in range(len(SECONDS))]
    for index in range(len(SECONDS)):
        clean = Audio.load(root / f"gt_audio/{index}.wav").samples
        mixed = Audio.load(root / f"gl_audio/noisy_{index}.wav").samples
        facts = json.loads((root / f"gl_audio/noisy_{index}.json").read_text())
        ratio = 20 * log10(float(level(clean) / level(mixed - clean)))
        assert ratio == pytest.approx(facts["snr_db"], abs=0.01)
        assert 3 <= facts["snr_db"] <= 9
        assert facts["seed"] == 5
    before = {path: path.stat().st_mtime_ns for path in (root / "gl_audio").iterdir()}
    opened(root, snr=(20.0, 20.0))
    assert before == {path: path.stat().st_mtime_ns for path in (root / "gl_audio").iterdir()}


def test_clean_recordings_alone_need_a_place_for_the_noisy_ones(root: Path) -> None:
    fill(root.parent / "plain")
    with pytest.raises(UsageError, match=r"no folder gt_audio and none of noisy.*data\.noisy=FOLDER"):
        opened(root.parent / "plain")
    assert names(root.parent / "plain") == ["0.wav", "1.wav", "2.wav", "3.wav"]
    data = opened(root.parent / "plain", noisy="made/here")
    assert data.report.used == 4
    assert names(root.parent / "made/here") == [f"noisy_{index}.wav" for index in range(4)]


def test_noisy_recordings_within_the_clean_folder_are_not_taken_for_clean_ones(root: Path) -> None:
    fill(root.parent / "plain")
    options = {"noisy": str(root.parent / "plain/run/gl_audio")}
    first, second = (opened(root.parent / "plain", **options) for _ in range(2))
    assert first.report.used == second.report.used == 4
    assert second.report.skipped == []


def test_segments_of_a_pair_are_the_same_place_of_both(root: Path) -> None:
    batch = all_of(opened(root, snr=(60.0, 60.0), crop="start"))
    assert batch.audio.shape == noisy(batch).shape == (9, 1, SAMPLES)
    for clean, heard, length in zip(batch.audio, noisy(batch), batch.lengths.tolist(), strict=True):
        assert 0 < float((clean - heard).abs().amax()) < 0.01
        assert not heard[:, length:].any()


def test_fixed_segments_cover_every_sample_and_the_last_ends_with_the_recording(root: Path) -> None:
    whole = Audio.load(root / "gt_audio/2.wav").samples
    segments = all_of(opened(root, snr=(60.0, 60.0), crop="start")).audio[2:5]
    for segment, start in zip(segments, (0, 1000, 1400), strict=True):
        torch.testing.assert_close(segment, whole[:, start : start + SAMPLES])


def test_random_segments_begin_anywhere_and_a_pass_has_as_many(root: Path) -> None:
    fixed, free = opened(root, crop="start"), opened(root)
    assert fixed.size == free.size == 9
    starts = {
        prompt.start
        for batch in islice(free.batches(9, seed=0), 8)
        for prompt in batch.prompts
        if prompt.total == pytest.approx(0.5)
    }
    assert len(starts) > 20
    assert max(start for start in starts if start is not None) > 0.3
    places = [0, 0, *(0, 1000, 1400), *(0, 1000, 2000, 3000)]  # samples from the start of the recording
    assert [prompt.start for prompt in all_of(fixed).prompts] == [place / RATE for place in places]


def test_every_second_is_already_as_likely_as_any_other(root: Path) -> None:
    assert opened(root, each="second").size == 9


def test_only_what_is_of_the_split_is_kept_in_memory(root: Path) -> None:
    kept = 0
    for split in ("train", "validation"):
        plain, cached = (opened(root, split, holdout=0.5, cache=cache) for cache in (False, True))
        assert torch.equal(all_of(plain).audio, all_of(cached).audio)
        assert torch.equal(noisy(all_of(plain)), noisy(all_of(cached)))
        segments = cached.examples.source
        assert isinstance(segments, Segments)
        kept += len(segments.here.recordings)
    assert kept == len(SECONDS)


def test_gain_and_polarity_change_both_alike_and_within_full_scale(root: Path) -> None:
    data = opened(root, snr=(-10.0, -10.0), gain=6.0, polarity=True, level=-24.0, crop="start")
    batch = next(data.batches(9, seed=0))
    assert float(noisy(batch).abs().amax()) <= 1
    plain = all_of(opened(root, crop="start"))
    places = {(prompt.total, prompt.start): place for place, prompt in enumerate(plain.prompts)}
    factors = []
    for prompt, *rows in zip(batch.prompts, batch.audio, noisy(batch), strict=True):
        place = places[prompt.total, prompt.start]
        before = plain.audio[place], noisy(plain)[place]
        factor = float((rows[0] * before[0]).sum() / before[0].square().sum())
        for row, one in zip(rows, before, strict=True):
            torch.testing.assert_close(row, factor * one, atol=1e-5, rtol=0)
        factors.append(factor)
    assert min(factors) < 0 < max(factors)
    assert len({round(abs(factor), 3) for factor in factors}) > 4


def test_a_partner_may_have_the_same_name_another_rate_and_another_ending(root: Path) -> None:
    for index in range(3):
        clean = Audio.load(root / f"gt_audio/{index}.wav")
        target = root / "gl_audio" / (f"{index}.flac" if index else f"noisy_{index}.wav")
        target.parent.mkdir(exist_ok=True)
        clean.resample(16000).save(target)
    data = opened(root)
    assert data.report.used == 3
    assert [name for name, _ in data.report.skipped] == ["3.wav"]
    assert "has no noisy_3 in" in data.report.skipped[0][1]


def test_a_pair_is_as_long_as_the_shorter_of_both(root: Path) -> None:
    opened(root)
    longer = Audio.load(root / "gl_audio/noisy_3.wav")
    Audio(longer.samples[:, :2500], RATE).save(root / "gl_audio/noisy_3.wav", subtype="FLOAT")
    assert opened(root).size == 1 + 1 + 3 + 3


def test_all_segments_of_a_recording_are_held_out_together(root: Path) -> None:
    train, validation = (opened(root, split, holdout=0.5) for split in ("train", "validation"))
    totals = [{prompt.total for prompt in all_of(data).prompts} for data in (train, validation)]
    assert not totals[0] & totals[1]
    assert train.report.used + validation.report.used == len(SECONDS)
    assert train.size is not None
    assert validation.size is not None
    assert train.size + validation.size == 9


def test_at_least_one_recording_is_held_out(root: Path) -> None:
    counts = [opened(root, split, holdout=1e-6).report.used for split in ("train", "validation")]
    assert counts == [3, 1]
    with pytest.raises(UsageError, match="holds nothing out"):
        opened(root, "validation")


def test_whole_recordings_are_left_out_by_their_length(root: Path) -> None:
    assert opened(root, min_seconds=0.2).size == 3 + 4
    assert opened(root, max_seconds=0.2).size == 2
    assert opened(root, crop="skip").size == 2


def test_stereo_pairs_stay_apart(root: Path) -> None:
    two = torch.rand(2, 3000, generator=seeded(0))
    Audio(two, RATE).save(root / "gt_audio/4.wav", subtype="FLOAT")
    data = Pairs(path=str(root), crop="start", snr=(80.0, 80.0), min_seconds=0.35, max_seconds=0.4).open(
        sample_rate=RATE, channels=2, samples=SAMPLES, split="all"
    )
    batch = all_of(data)
    torch.testing.assert_close(batch.audio[0], two[:, :SAMPLES])
    torch.testing.assert_close(noisy(batch)[0], two[:, :SAMPLES], atol=1e-3, rtol=0)


@forks
@pytest.mark.parametrize("workers", [0, 1])
def test_a_later_start_goes_on_as_if_batches_had_been_taken(root: Path, workers: int) -> None:
    data = opened(root, gain=3.0)
    whole = list(islice(data.batches(4, seed=7), 6))
    later = list(islice(data.batches(4, seed=7, start=2, workers=workers), 4))
    for one, other in zip(whole[2:], later, strict=True):
        assert torch.equal(one.audio, other.audio)
        assert torch.equal(noisy(one), noisy(other))


def test_mixing_that_fails_leaves_no_folder_behind(root: Path) -> None:
    with pytest.raises(HissError, match="there is no folder"):
        opened(root, noise=str(root / "nothing"))
    assert names(root) == ["gt_audio"]
    with pytest.raises(HissError, match="there is no folder"):
        opened(root / "nothing")


def test_a_place_for_noisy_recordings_and_another_for_validation_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="hold out a share"):
        Pairs(path="a", noisy="b", validation="c")
