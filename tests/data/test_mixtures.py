"""Mixtures: what every data set promises, and that clean and noisy recordings belong together."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from math import log10
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.data import DataConfig
from hiss.data.folder import AudioFolder
from hiss.data.mixer import Chances, Mixer
from hiss.data.mixtures import Mixed, Mixtures
from hiss.data.shards import Shards
from hiss.data.tools import pack
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.signal.mixing import level
from hiss.types import Batch

RATE = 8000
SAMPLES = 4000
FRAME = 160
PLAIN = Chances(
    clean=0,
    noise_only=0,
    synthetic=0,
    babble=0,
    second=0,
    reverb=0,
    speed=0,
    colour=0,
    band_limit=0,
    resampled=0,
    clip=0,
    codec=0,
)
"""Speech with one recorded noise, and nothing else."""
ALL = Chances(second=1, reverb=1, rooms=2, speed=1, colour=1, band_limit=1, resampled=1, clip=1, codec=1, babble=0.5)

# Python 3.12 warns when a process with threads forks, which is how workers start.
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tones in `speech`, five noises in `noise`."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in ("speech", "noise", "silence"):
        (folder / name).mkdir()
    for index in range(6):
        time = torch.arange(2000 * (index + 1)) / RATE
        Audio(0.3 * torch.sin(2 * torch.pi * (300 + 100 * index) * time), RATE).save(folder / f"speech/{index}.wav")
    for index in range(5):
        noise = torch.rand(1500 * (index + 1), generator=seeded(index)) - 0.5
        Audio(noise, RATE).save(folder / f"noise/{index}.wav")
    Audio(torch.zeros(4000), RATE).save(folder / "silence/0.wav")
    return folder


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def configure(folder: Path, chances: Chances = PLAIN, **options: Any) -> Mixtures:
    return Mixtures(
        speech=AudioFolder(path=str(folder / "speech"), **options),
        noise=AudioFolder(path=str(folder / "noise")),
        chances=chances,
    )


def opened(config: DataConfig, channels: int = 1) -> Mixed:
    data = config.open(sample_rate=RATE, channels=channels, samples=SAMPLES)
    assert isinstance(data, Mixed)
    return data


def noisy(batch: Batch) -> Tensor:
    """Returns the noisy recordings [batch, channels, samples]."""
    rows = [prompt.recording for prompt in batch.prompts if prompt.recording is not None]
    return torch.stack(rows)


def first(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(islice(batches, count))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.audio, b.audio) and torch.equal(noisy(a), noisy(b)) for a, b in zip(one, other, strict=True)
    )


def test_a_batch_has_a_noisy_recording_for_each_clean_one_and_both_within_full_scale(folder: Path) -> None:
    for batch in first(opened(configure(folder, ALL), channels=2).batches(4, seed=0), 4):
        assert batch.audio.shape == noisy(batch).shape == (4, 2, SAMPLES)
        assert batch.audio.dtype == noisy(batch).dtype == torch.float32
        assert batch.sample_rate == RATE
        assert batch.lengths.tolist() == [SAMPLES] * 4
        for part in (batch.audio, noisy(batch)):
            assert bool(torch.isfinite(part).all())
            assert float(part.abs().amax()) <= 1


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_the_snr_is_the_one_asked_for(folder: Path, snr: float) -> None:
    batch = next(opened(configure(folder, replace(PLAIN, snr=(snr, snr)))).batches(8, seed=0))
    ratio = level(batch.audio, frame=FRAME) / level(noisy(batch) - batch.audio, frame=FRAME)
    torch.testing.assert_close(20 * ratio.log10(), torch.full((8,), snr).double(), atol=0.1, rtol=0)


def test_snr_and_level_fill_their_ranges(folder: Path) -> None:
    data = opened(configure(folder, replace(PLAIN, snr=(-5, 20), peak=(-40, -3))))
    batch = next(data.batches(100, seed=0))
    ratios = 20 * (level(batch.audio, frame=FRAME) / level(noisy(batch) - batch.audio, frame=FRAME)).log10()
    louder = torch.maximum(batch.audio.abs().amax((1, 2)), noisy(batch).abs().amax((1, 2)))
    for found, least, most in ((ratios, -5, 20), (20 * louder.log10(), -40, -3)):
        assert least - 0.1 <= float(found.min()) < least + 3
        assert most - 3 < float(found.max()) <= most + 0.1


def test_clean_speech_is_left_alone_and_noise_alone_shall_become_silence(folder: Path) -> None:
    clean = next(opened(configure(folder, replace(ALL, clean=1, noise_only=0))).batches(6, seed=0))
    assert torch.equal(clean.audio, noisy(clean))
    assert bool(clean.audio.flatten(1).any(dim=1).all())
    alone = next(opened(configure(folder, replace(ALL, clean=0, noise_only=1))).batches(6, seed=0))
    assert not alone.audio.any()
    assert bool(noisy(alone).flatten(1).any(dim=1).all())


def test_shares_of_clean_speech_and_of_noise_alone_are_as_asked(folder: Path) -> None:
    batch = next(opened(configure(folder, replace(PLAIN, clean=0.2, noise_only=0.3))).batches(300, seed=0))
    clean = [torch.equal(a, b) for a, b in zip(batch.audio, noisy(batch), strict=True)]
    alone = [not audio.any() for audio in batch.audio]
    assert sum(clean) == pytest.approx(60, abs=21)
    assert sum(alone) == pytest.approx(90, abs=24)


def test_silent_speech_is_noise_alone_and_silent_noise_leaves_speech_alone(folder: Path) -> None:
    silence = AudioFolder(path=str(folder / "silence"))
    quiet = next(opened(replace(configure(folder), speech=silence)).batches(2, seed=0))
    assert not quiet.audio.any()
    assert noisy(quiet).any()
    still = next(opened(replace(configure(folder), noise=silence)).batches(2, seed=0))
    assert torch.equal(still.audio, noisy(still))
    assert not noisy(next(opened(replace(configure(folder), speech=silence, noise=silence)).batches(2, seed=0))).any()
    with pytest.raises(HissError, match="babble needs voices"):
        opened(replace(configure(folder, replace(PLAIN, babble=0.1)), speech=silence))


def test_without_recorded_noises_they_are_made(folder: Path) -> None:
    config = Mixtures(speech=AudioFolder(path=str(folder / "speech")), chances=replace(PLAIN, noise_only=1))
    batch = next(opened(config).batches(12, seed=0))
    assert bool(noisy(batch).flatten(1).any(dim=1).all())


@pytest.mark.parametrize(
    "name", ["second", "synthetic", "babble", "reverb", "speed", "colour", "band_limit", "resampled", "clip"]
)
def test_every_chance_changes_the_mixture(folder: Path, name: str) -> None:
    chances = Chances.from_dict(PLAIN.to_dict() | {name: 1.0})
    plain = first(opened(configure(folder)).batches(4, seed=0), 1)
    changed = first(opened(configure(folder, chances)).batches(4, seed=0), 1)
    assert not same(plain, changed)


def test_the_wanted_speech_has_the_speed_and_the_band_of_the_noisy_one_but_not_its_clipping() -> None:
    tone = torch.sin(2 * torch.pi * 500 / RATE * torch.arange(8000))[None]
    chances = replace(PLAIN, snr=(60, 60), speed=1, speeds=(1.2, 1.2), clip=1)
    mixer = Mixer(chances, sample_rate=RATE, samples=SAMPLES, crowd=())
    clean, heard = mixer(tone, [0.1 * torch.randn(1, SAMPLES, generator=seeded(0))], seeded(0))
    assert int(torch.fft.rfft(clean[0]).abs().argmax()) == pytest.approx(600 * SAMPLES / RATE, abs=1)
    assert float(heard.abs().amax()) < 0.95 * float(clean.abs().amax())


@pytest.mark.parametrize(("clean", "noise_only"), [(0, 0), (1, 0), (0, 1)])
def test_the_edge_of_the_band_does_not_tell_what_is_clean(clean: float, noise_only: float) -> None:
    """A set of which all is resampled ends below half the rate, the clean and the noisy alike."""
    chances = replace(PLAIN, resampled=1, clean=clean, noise_only=noise_only)
    mixer = Mixer(chances, sample_rate=RATE, samples=SAMPLES, crowd=())
    speech, noise = (torch.randn(1, SAMPLES, generator=seeded(name)) for name in ("speech", "noise"))
    for seed in range(4):
        for audio in mixer(speech, [noise] * 2, seeded(seed)):
            spectrum = torch.fft.rfft(audio[0, 500:-500] * torch.hann_window(SAMPLES - 1000)).abs()
            assert not audio.any() or float(spectrum[-10:].mean()) < 0.2 * float(spectrum[:500].mean())


def test_a_codec_leaves_few_levels_of_the_noisy_recording_and_all_of_the_clean_one() -> None:
    mixer = Mixer(replace(PLAIN, codec=1), sample_rate=RATE, samples=SAMPLES, crowd=())
    tone = torch.sin(torch.arange(SAMPLES) * 0.3)[None]
    for seed in range(8):
        clean, heard = mixer(tone, [torch.randn(1, SAMPLES, generator=seeded(seed))] * 2, seeded(seed))
        assert len(heard.unique()) < 0.6 * SAMPLES
        assert len(clean.unique()) > 0.9 * SAMPLES


# --- what every data set promises ---


def test_the_same_seed_gives_the_same_mixtures_and_another_does_not(folder: Path) -> None:
    config = configure(folder, ALL)
    assert same(first(opened(config).batches(3, seed=1), 4), first(opened(config).batches(3, seed=1), 4))
    assert not same(first(opened(config).batches(3, seed=1), 4), first(opened(config).batches(3, seed=2), 4))


@pytest.mark.parametrize("start", [1, 4])
def test_a_later_start_goes_on_as_if_batches_had_been_taken(folder: Path, start: int) -> None:
    whole = first(opened(configure(folder, ALL)).batches(3, seed=7), 7)
    assert same(first(opened(configure(folder, ALL)).batches(3, seed=7, start=start), 7 - start), whole[start:])


def test_a_stream_of_shards_resumes_exactly_too(folder: Path, tmp_path: Path) -> None:
    parts = {name: str(pack(folder / name, tmp_path / name).shards[0].parent) for name in ("speech", "noise")}
    streams = {name: Shards(path=path, cache=False, shuffle=2) for name, path in parts.items()}
    config = Mixtures(speech=streams["speech"], noise=streams["noise"], chances=ALL)
    whole = first(opened(config).batches(2, seed=7), 6)
    assert same(first(opened(config).batches(2, seed=7, start=2), 4), whole[2:])


def test_the_batch_size_and_the_processes_do_not_change_a_mixture(folder: Path) -> None:
    data = opened(configure(folder, ALL))
    one = torch.cat([noisy(batch) for batch in first(data.batches(2, seed=0), 4)])
    whole = noisy(next(data.batches(8, seed=0)))
    torch.testing.assert_close(one, whole, atol=0, rtol=0)
    shared = [first(data.batches(2, seed=0, rank=rank, world=2), 2) for rank in (0, 1)]
    turns = [noisy(shared[rank][batch]) for batch in (0, 1) for rank in (0, 1)]
    assert torch.equal(torch.cat(turns), whole)


@forks
@pytest.mark.parametrize("start", [0, 3])
def test_workers_change_nothing(folder: Path, start: int) -> None:
    data = opened(configure(folder, ALL))
    for world in (1, 2):
        series: dict[str, int] = {"seed": 7, "start": start, "rank": world - 1, "world": world}
        alone = first(data.batches(3, **series), 5)
        assert same(first(data.batches(3, workers=2, **series), 5), alone)


def test_once_gives_each_recording_the_same_mixture_whatever_the_batch(folder: Path) -> None:
    data = opened(configure(folder, ALL))
    whole = list(data.once(6))
    assert len(whole) == 1
    assert same(list(opened(configure(folder, ALL)).once(6)), whole)
    parts = list(data.once(4))
    assert [len(part.audio) for part in parts] == [4, 2]
    assert torch.equal(torch.cat([noisy(part) for part in parts]), noisy(whole[0]))


def test_what_is_held_out_is_said_of_the_speech(folder: Path) -> None:
    config = configure(folder, holdout=0.4)
    assert config.validates
    assert not configure(folder).validates
    train, held = (
        config.open(sample_rate=RATE, channels=1, samples=SAMPLES, split=split) for split in ("train", "validation")
    )
    assert 0 < held.report.used < 6
    assert train.report.used + held.report.used == 6
    with pytest.raises(UsageError, match="holds nothing out"):
        configure(folder).open(sample_rate=RATE, channels=1, samples=SAMPLES, split="validation")


def test_recordings_of_a_low_rate_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    Audio(torch.ones(9), 4000).save(tmp_path / "low.wav")
    Audio(torch.ones(9), 16000).save(tmp_path / "high.wav")
    packed = str(pack(tmp_path, tmp_path / "packed").shards[0])
    for config in (AudioFolder(path=str(tmp_path), min_rate=8000), Shards(path=packed, min_rate=8000)):
        data = config.open(sample_rate=RATE, channels=1, samples=9)
        assert data.report.used == 1
        [(name, reason)] = data.report.skipped
        assert name.startswith("low")
        assert reason == "has 4000 Hz, less than min_rate 8000"


# --- how it is said ---


def test_a_configuration_survives_a_round_trip(folder: Path) -> None:
    config = configure(folder, replace(ALL, snr=(0, 10)))
    assert DataConfig.from_dict(config.to_dict()) == config
    assert DataConfig.from_dict({"name": "mixtures", "speech": {"name": "tones"}}).to_dict()["noise"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"snr": (20.0, -5.0)}, "snr goes from least to most"),
        ({"peak": (-3.0, 1.0)}, "peak is at most 0 dBFS"),
        ({"reverb": 1.5}, "reverb is a share from 0 to 1"),
        ({"clean": 0.6, "noise_only": 0.6}, "clean and noise_only are shares of all"),
        ({"speeds": (0.0, 1.0)}, "times and speeds are above 0"),
        ({"rooms": 0}, "at least one room"),
    ],
)
def test_chances_that_cannot_be_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Chances(**change)


def test_what_belongs_to_the_parts_is_refused_for_the_whole(folder: Path) -> None:
    with pytest.raises(UsageError, match="gain is said of the speech or of the noise"):
        replace(configure(folder), gain=3.0)


def test_a_level_in_decibels_is_that_of_the_louder_of_the_two() -> None:
    mixer = Mixer(replace(PLAIN, peak=(-10, -10)), sample_rate=RATE, samples=SAMPLES, crowd=())
    tone, noise = torch.sin(torch.arange(SAMPLES) * 0.3)[None], torch.randn(1, SAMPLES, generator=seeded(0))
    clean, heard = mixer(tone, [noise, noise], seeded(3))
    assert 20 * log10(max(float(clean.abs().amax()), float(heard.abs().amax()))) == pytest.approx(-10, abs=1e-3)
