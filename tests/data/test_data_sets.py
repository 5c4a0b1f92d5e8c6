"""What every data set promises: order, seeds, resuming, sharing among processes, cutting and augmenting."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from math import log2, log10
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.data import DataConfig, Dataset
from hiss.data.folder import AudioFolder
from hiss.data.shards import Shards
from hiss.data.tones import SyntheticTones
from hiss.data.tools import pack
from hiss.errors import HissError, UsageError
from hiss.types import Batch

RATE = 8000
COUNT = 10  # recordings of every set below
KINDS = ("tones", "folder", "folder in memory", "shards", "stream")
MAPPED = KINDS[:-1]

# Python 3.12 warns when a process with threads forks, which is how workers start.
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recording i is a noise of 0.1 * (i + 1) seconds; its label is i, its speaker i % 3."""
    folder = tmp_path_factory.mktemp("recordings")
    for index in range(COUNT):
        noise = torch.rand(800 * (index + 1), generator=torch.Generator().manual_seed(index)) - 0.5
        Audio(noise, RATE).save(folder / f"{index}.wav")
        metadata = {"label": index, "speaker": f"s{index % 3}", "text": f"noise {index}"}
        (folder / f"{index}.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture(scope="session")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recordings in several shards."""
    out = tmp_path_factory.mktemp("packed") / "pack"
    assert len(pack(folder, out, shard_mb=0.02).shards) == 6
    return out


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def configure(kind: str, folder: Path, shards: Path) -> DataConfig:
    labels = {"digit": "label"}
    if kind == "tones":
        return SyntheticTones(examples=COUNT)
    if kind in ("folder", "folder in memory"):
        return AudioFolder(path=str(folder), labels=labels, cache="memory" in kind)
    return Shards(path=str(shards), labels=labels, cache=kind == "shards", shuffle=4)


@pytest.fixture
def config(request: pytest.FixtureRequest, folder: Path, shards: Path) -> DataConfig:
    return configure(request.param, folder, shards)


every = pytest.mark.parametrize("config", KINDS, indirect=True)
mapped = pytest.mark.parametrize("config", MAPPED, indirect=True)


def opened(config: DataConfig, samples: int = 4000, channels: int = 1) -> Dataset:
    return config.open(sample_rate=RATE, channels=channels, samples=samples)


def first(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(islice(batches, count))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.audio, b.audio) and torch.equal(a.lengths, b.lengths) and a.prompts == b.prompts
        for a, b in zip(one, other, strict=True)
    )


def names(batches: list[Batch]) -> list[str]:
    return [prompt.labels["digit"] for batch in batches for prompt in batch.prompts]


@every
def test_a_batch_has_its_shape_and_zeros_behind_every_clip(config: DataConfig) -> None:
    for batch in first(opened(config, channels=2).batches(4, seed=0), 5):
        assert batch.audio.shape == (4, 2, 4000)
        assert batch.audio.dtype == torch.float32
        assert batch.sample_rate == RATE
        assert len(batch.prompts) == len(batch.lengths) == 4
        for audio, length in zip(batch.audio, batch.lengths.tolist(), strict=True):
            assert float(audio.abs().amax()) <= 1
            assert not audio[:, length:].any()
            assert audio[:, length - 1].any()


@every
def test_the_same_seed_gives_the_same_batches_and_another_does_not(config: DataConfig) -> None:
    data = opened(config)
    assert same(first(data.batches(4, seed=1), 6), first(opened(config).batches(4, seed=1), 6))
    assert not same(first(data.batches(4, seed=1), 6), first(data.batches(4, seed=2), 6))


@every
@pytest.mark.parametrize("start", [1, 2, 5, 9])
def test_a_later_start_goes_on_as_if_batches_had_been_taken(config: DataConfig, start: int) -> None:
    config = replace(config, gain=6.0, polarity=True, pitch=1.0, offset=0.05)
    whole = first(opened(config).batches(3, seed=7), 12)
    assert same(first(opened(config).batches(3, seed=7, start=start), 12 - start), whole[start:])


@forks
@every
@pytest.mark.parametrize("start", [0, 3])
def test_workers_resume_exactly_too(config: DataConfig, start: int) -> None:
    whole = first(opened(config).batches(3, seed=7, workers=2), 8)
    assert same(first(opened(config).batches(3, seed=7, workers=2, start=start), 8 - start), whole[start:])


@forks
@mapped
def test_workers_change_nothing(config: DataConfig) -> None:
    data = opened(config)
    assert same(first(data.batches(3, seed=7, workers=2), 6), first(data.batches(3, seed=7), 6))


@forks
def test_workers_of_a_stream_read_every_sample_once(folder: Path, shards: Path) -> None:
    data = opened(configure("stream", folder, shards))
    # Readers finish their pass at different times: each label comes early, and none is read by both in one pass.
    seen = Counter(names(first(data.batches(1, seed=0, workers=2), 2 * COUNT)))
    assert set(seen) == {str(index) for index in range(COUNT)}


@mapped
def test_every_pass_has_each_recording_once_in_another_order(config: DataConfig) -> None:
    data = opened(config, samples=8000)
    ten = first(data.batches(5, seed=0), 6)  # three passes
    passes = [torch.cat([one.audio.square().sum((1, 2)) for one in ten[at : at + 2]]) for at in (0, 2, 4)]
    assert all(len(set(one.tolist())) == COUNT for one in passes)
    assert torch.equal(passes[0].sort().values, passes[1].sort().values)
    assert not torch.equal(passes[0], passes[1])


@every
def test_two_processes_share_a_pass_without_overlap(config: DataConfig) -> None:
    data = opened(replace(config, crop="start"), samples=8000)
    # Six shards: each process of a stream has three of them, and at least as many recordings.
    whole = not isinstance(config, Shards) or config.cache
    count = COUNT // 2 if whole else 3
    parts = [set(energies(data.batches(1, seed=3, rank=rank, world=2), count)) for rank in (0, 1)]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 2 * count


def energies(batches: Iterator[Batch], count: int) -> list[float]:
    return [float(batch.audio.double().square().sum()) for batch in first(batches, count)]


def test_processes_take_turns_on_a_single_shard(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "one")
    data = opened(Shards(path=str(tmp_path / "one"), labels={"digit": "label"}, cache=False))
    parts = [set(names(first(data.batches(1, seed=0, rank=rank, world=2), COUNT // 2))) for rank in (0, 1)]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == COUNT


@every
def test_once_gives_every_recording_in_order_and_always_the_same(config: DataConfig) -> None:
    config = replace(config, gain=6.0, polarity=True, pitch=1.0, offset=0.1)
    batches = list(opened(config).once(4))
    assert [len(batch.prompts) for batch in batches] == [4, 4, 2]
    assert same(batches, list(opened(config).once(4)))
    assert torch.equal(
        torch.cat([batch.audio for batch in batches]), torch.cat([batch.audio for batch in opened(config).once(1)])
    )
    if not isinstance(config, SyntheticTones):
        assert names(batches) == [str(index) for index in range(COUNT)]
        assert batches[0].lengths.tolist() == [800, 1600, 2400, 3200]


def test_all_sets_of_the_same_recordings_give_the_same_examples(folder: Path, shards: Path) -> None:
    sets = [opened(configure(kind, folder, shards), samples=8000) for kind in KINDS[1:]]
    expected = list(sets[0].once(COUNT))
    assert all(same(list(data.once(COUNT)), expected) for data in sets)


@every
def test_reading_does_not_touch_the_global_generator(config: DataConfig) -> None:
    before = torch.get_rng_state()
    first(opened(config).batches(3, seed=0), 4)
    assert torch.equal(torch.get_rng_state(), before)


# --- splits ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_holdout_is_stable_and_disjoint(kind: str, folder: Path, shards: Path) -> None:
    config = replace(configure(kind, folder, shards), holdout=0.4)
    assert config.validates
    parts = {}
    for split in ("train", "validation", "all"):
        data = config.open(sample_rate=RATE, channels=1, samples=8000, split=split)
        parts[split] = energies(data.once(1), COUNT + 1)
        assert energies(data.once(1), COUNT + 1) == parts[split]
    assert not set(parts["train"]) & set(parts["validation"])
    assert sorted(parts["train"] + parts["validation"]) == sorted(parts["all"])
    assert 1 <= len(parts["validation"]) < COUNT


def test_a_holdout_does_not_change_when_recordings_are_added() -> None:
    small, large = (
        set(energies(config.open(sample_rate=RATE, channels=1, samples=100, split="validation").once(1), 1000))
        for config in (SyntheticTones(examples=count, holdout=0.3) for count in (50, 200))
    )
    assert small <= large
    assert 0.2 < len(large) / 200 < 0.4


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_group_is_held_out_as_a_whole(kind: str, folder: Path, shards: Path) -> None:
    base = configure(kind, folder, shards)
    config = replace(base, holdout=0.8, group_key="speaker", labels={"speaker": "speaker"})  # type: ignore[call-arg]
    speakers = [
        {prompt.labels["speaker"] for batch in data.once(4) for prompt in batch.prompts}
        for data in (
            config.open(sample_rate=RATE, channels=1, samples=80, split="train"),
            config.open(sample_rate=RATE, channels=1, samples=80, split="validation"),
        )
    ]
    assert not speakers[0] & speakers[1]
    assert speakers[0] | speakers[1] == {"s0", "s1", "s2"}


@every
def test_validation_without_a_holdout_is_refused(config: DataConfig) -> None:
    assert not config.validates
    with pytest.raises(UsageError, match="holds nothing out for validation"):
        config.open(sample_rate=RATE, channels=1, samples=80, split="validation")


def test_validation_may_lie_elsewhere(folder: Path, shards: Path, tmp_path: Path) -> None:
    Audio(torch.full((100,), 0.5), RATE).save(tmp_path / "a.wav")
    config = AudioFolder(path=str(folder), validation=str(tmp_path))
    assert config.validates
    data = config.open(sample_rate=RATE, channels=1, samples=80, split="validation")
    assert data.report.used == 1
    with pytest.raises(UsageError, match="not both"):
        AudioFolder(path=str(folder), validation=str(tmp_path), holdout=0.1)


# --- cutting and augmenting ---


def ramp(tmp_path: Path, seconds: float = 2.0) -> str:
    """Returns a folder with one recording whose samples say where they are."""
    count = round(seconds * RATE)
    Audio(torch.linspace(0.1, 0.6, count), RATE).save(tmp_path / "ramp.wav", subtype="FLOAT")
    return str(tmp_path)


def clips(config: DataConfig, count: int = 64, samples: int = 1000) -> Batch:
    return next(opened(config, samples=samples).batches(count, seed=0))


def test_random_crops_lie_where_the_prompt_says(tmp_path: Path) -> None:
    batch = clips(AudioFolder(path=ramp(tmp_path)))
    starts = [prompt.start for prompt in batch.prompts]
    assert len(set(starts)) > 50
    for audio, prompt in zip(batch.audio, batch.prompts, strict=True):
        assert prompt.start is not None
        assert prompt.total == 2.0
        assert float(audio[0, 0]) == pytest.approx(0.1 + 0.5 * prompt.start * RATE / 15999, abs=1e-6)


def test_a_crop_at_the_start_begins_at_the_start(tmp_path: Path) -> None:
    batch = clips(AudioFolder(path=ramp(tmp_path), crop="start"))
    assert {prompt.start for prompt in batch.prompts} == {0.0}
    assert set(batch.audio[:, 0, 0].tolist()) == {batch.audio[0, 0, 0].item()}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"crop": "skip"}, "lasts 2.000 s, more than the 0.125 s of a clip"),
        ({"min_seconds": 3.0}, "less than min_seconds 3.0"),
        ({"max_seconds": 1.0}, "more than max_seconds 1.0"),
    ],
)
def test_recordings_of_the_wrong_length_are_left_out_and_reported(
    options: dict[str, float], reason: str, tmp_path: Path
) -> None:
    Audio(torch.full((900 if options != {"min_seconds": 3.0} else 32000,), 0.5), RATE).save(tmp_path / "fits.wav")
    config = AudioFolder(path=ramp(tmp_path), **options)  # type: ignore[arg-type]
    report = opened(config, samples=1000).report
    assert report.used == 1
    assert report.skipped[0][0] == "ramp.wav"
    assert reason in report.skipped[0][1]


def test_offset_puts_silence_before_short_clips_only(tmp_path: Path) -> None:
    Audio(torch.full((400,), 0.5), RATE).save(tmp_path / "short.wav")
    batch = clips(AudioFolder(path=str(tmp_path), offset=0.05))  # 400 samples, at most, of 600 free
    leads = (batch.audio[:, 0] == 0).long().cumprod(1).sum(1)
    assert leads.min() < 50
    assert 350 < leads.max() <= 400
    assert torch.equal(batch.lengths, leads + 400)
    assert clips(AudioFolder(path=str(tmp_path), offset=1.0)).lengths.max() <= 1000


def test_gain_and_polarity_are_drawn_within_their_range(tmp_path: Path) -> None:
    Audio(torch.full((1000,), 0.25), RATE).save(tmp_path / "a.wav", subtype="FLOAT")
    values = clips(AudioFolder(path=str(tmp_path), gain=6.0, polarity=True), count=400).audio[:, 0, 0]
    decibels = 20 * torch.log10(values.abs() / 0.25)
    assert -6 <= decibels.min() < -5
    assert 5 < decibels.max() <= 6
    assert abs(decibels.mean()) < 0.5
    assert 0.4 < (values < 0).double().mean() < 0.6


def test_pitch_is_drawn_within_its_range_and_changes_the_speed_with_it(tmp_path: Path) -> None:
    beep = torch.zeros(2 * RATE)
    beep[:RATE] = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    Audio(beep, RATE).save(tmp_path / "a.wav")
    config = AudioFolder(path=str(tmp_path), pitch=2.0, crop="start")
    clip = clips(config, count=200, samples=RATE)
    assert clip.lengths.unique().tolist() == [RATE]  # there is enough to fill all of the clip
    hertz = [tone(audio[0, :4000]) * RATE / 4000 for audio in clip.audio]
    lowest, highest = 1000 * 2 ** (-2 / 12), 1000 * 2 ** (2 / 12)
    assert lowest - 3 < min(hertz) < lowest + 20
    assert highest - 20 < max(hertz) < highest + 3
    ends = [int(audio[0].abs().gt(0.1).nonzero().amax()) for audio in clip.audio]
    for pitch, end in zip(hertz, ends, strict=True):
        assert end == pytest.approx(min(1000 / pitch, 1) * RATE, abs=30)
    shorter = clips(config, count=20, samples=3 * RATE).lengths.double() / RATE
    assert 2 * 2 ** (-2 / 12) < shorter.min() < 2 < shorter.max() < 2 * 2 ** (2 / 12)
    assert torch.equal(
        next(opened(config, samples=RATE).once(1)).audio[0, 0], Audio.load(tmp_path / "a.wav").samples[0, :RATE]
    )


def test_what_is_in_tune_stays_so(tmp_path: Path) -> None:
    Audio(0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(2 * RATE) / RATE), RATE).save(tmp_path / "a.wav")
    clip = clips(AudioFolder(path=str(tmp_path), pitch=1.0, tuned=True, crop="start"), count=40, samples=RATE)
    semitones = {round(12 * log2(tone(audio[0, :4000]) * RATE / 4000 / 1000), 1) for audio in clip.audio}
    assert semitones == {-1.0, 0.0, 1.0}


def test_a_recording_of_one_sample_survives_another_pitch(tmp_path: Path) -> None:
    Audio(torch.tensor([0.5]), RATE).save(tmp_path / "a.wav")
    assert clips(AudioFolder(path=str(tmp_path), pitch=12.0)).lengths.min() >= 1


def test_level_is_that_of_the_whole_recording_and_peaks_stay_inside(tmp_path: Path) -> None:
    quiet = torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 1e-3
    Audio(quiet, RATE).save(tmp_path / "quiet.wav", subtype="FLOAT")
    config = AudioFolder(path=str(tmp_path), level=-20.0)
    whole = clips(config, count=1, samples=16000).audio
    assert 20 * log10(float(whole.square().mean().sqrt())) == pytest.approx(-20, abs=0.01)
    loud = clips(replace(config, level=0.0), count=1, samples=16000).audio
    assert float(loud.abs().max()) == pytest.approx(1)


def test_silence_stays_silence_at_any_level(tmp_path: Path) -> None:
    Audio(torch.zeros(1000), RATE).save(tmp_path / "silence.wav")
    assert not clips(AudioFolder(path=str(tmp_path), level=-20.0, gain=6.0)).audio.any()


@pytest.mark.parametrize("rate", [4000, 11025, 48000])
def test_recordings_come_at_the_rate_that_is_asked_for(rate: int, tmp_path: Path) -> None:
    time = torch.arange(2 * rate) / rate
    Audio(0.5 * torch.sin(2 * torch.pi * 500 * time), rate).save(tmp_path / "a.wav")
    for cache in (False, True):
        data = opened(AudioFolder(path=str(tmp_path), cache=cache), samples=RATE)
        audio = next(data.batches(2, seed=0)).audio
        assert tone(audio[0, 0]) == tone(audio[1, 0]) == 500


def tone(samples: Tensor) -> int:
    return int(torch.fft.rfft(samples * torch.hann_window(len(samples))).abs().argmax())


# --- what is asked wrongly ---


@pytest.mark.parametrize(
    "options",
    [{"offset": -1.0}, {"gain": -1.0}, {"pitch": -1.0}, {"min_seconds": -1.0}, {"holdout": 1.0}, {"holdout": -0.1}],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        SyntheticTones(**options)  # type: ignore[arg-type]


@every
def test_impossible_clips_and_batches_are_refused(config: DataConfig) -> None:
    with pytest.raises(UsageError, match="clips need"):
        config.open(sample_rate=RATE, channels=1, samples=0)
    for arguments in ({"start": -1}, {"rank": 2, "world": 2}, {"workers": -1}):
        with pytest.raises(UsageError, match="batches need"):
            opened(config).batches(4, seed=0, **arguments)
    with pytest.raises(UsageError, match="batches need"):
        next(opened(config).once(0))


@every
def test_configurations_survive_a_dict_and_are_found_by_name(config: DataConfig) -> None:
    assert DataConfig.from_dict(config.to_dict()) == config
    assert {"tones", "folder", "shards"} <= DataConfig.members.keys()


@mapped
def test_data_of_which_nothing_can_be_used_says_why(config: DataConfig) -> None:
    with pytest.raises(HissError, match=r"has no recording to use, 10 were skipped; the first: .*min_seconds"):
        opened(replace(config, min_seconds=100.0))
