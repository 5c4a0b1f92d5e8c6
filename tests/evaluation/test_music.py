"""What a listener notices in music: closed forms, and copies that are found wherever they are cut from."""

import math

import pytest
import torch
from melodies import melody

from hiss.audio import Audio
from hiss.evaluation.embeddings import tonal
from hiss.evaluation.generation import evaluate_generation
from hiss.evaluation.music import (
    TRAITS,
    centroid,
    chroma,
    clipped,
    colour,
    grid,
    level,
    likeness,
    onsets,
    silence,
)
from hiss.noise import seeded

RATE = 22_050


def tone(hertz: float, seconds: float = 2.0, *, rate: int = RATE) -> Audio:
    return Audio(0.1 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate), rate)


def noise(seconds: float = 3.0, *, seed: int = 0) -> Audio:
    return Audio(0.1 * torch.randn(round(seconds * RATE), generator=seeded("noise", seed)), RATE)


def test_tempered_notes_lie_on_the_grid_and_notes_between_them_do_not() -> None:
    assert grid(melody()) > 0.95
    assert grid(melody(lowest=220 * 2 ** (0.5 / 12))) < 0.1
    assert grid(melody(lowest=220 * 2 ** (0.15 / 12))) > 0.95


def test_half_of_noise_lies_on_the_grid_and_nothing_of_silence() -> None:
    assert grid(noise()) == pytest.approx(0.5, abs=0.05)
    assert grid(Audio(torch.zeros(RATE), RATE)) == 0


@pytest.mark.parametrize("pace", [1, 2, 4, 8])
def test_onsets_are_counted(pace: int) -> None:
    assert onsets(melody(pace=pace)) == pytest.approx(pace, abs=0.5)


def test_a_tone_that_is_held_has_one_onset_at_most_and_silence_none() -> None:
    assert onsets(tone(440, 4.0)) <= 0.25
    assert onsets(Audio(torch.zeros(RATE), RATE)) == 0


def test_half_of_a_recording_that_ends_early_is_silent() -> None:
    loud = noise(2.0).samples
    assert silence(Audio(torch.cat([loud, torch.zeros_like(loud)], dim=1), RATE)) == pytest.approx(0.5, abs=0.03)


def test_the_centroid_of_a_tone_is_its_frequency_and_that_of_white_noise_a_quarter_of_the_rate() -> None:
    assert centroid(tone(3000)) == pytest.approx(3000, rel=0.02)
    assert centroid(noise()) == pytest.approx(RATE / 4, rel=0.03)


def test_level_and_clipping_are_those_of_the_samples() -> None:
    assert level(tone(1000)) == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=0.01)
    assert level(Audio(torch.zeros(10), RATE)) == -120
    assert clipped(Audio(torch.tensor([0.5, 1.0, -1.2, 0.0]), RATE)) == 0.5


def test_the_chroma_knows_the_chord_but_not_the_key() -> None:
    def chord(root: float) -> Audio:
        return Audio(sum((tone(root * 2 ** (step / 12)).samples for step in (0, 4, 7)), torch.zeros(())), RATE)

    lower, higher = chroma(chord(220.0)), chroma(chord(220 * 2 ** (5 / 12)))
    assert float(lower.sum()) == pytest.approx(1)
    assert float(lower.sort(descending=True).values[:3].sum()) > 0.65
    torch.testing.assert_close(higher, lower, atol=0.1, rtol=0)


@pytest.mark.parametrize("trait", sorted(TRAITS))
def test_the_sample_rate_and_a_second_channel_make_no_difference(trait: str) -> None:
    audio = melody(rate=44_100)
    other = Audio(audio.resample(RATE).samples.expand(2, -1), RATE)
    assert TRAITS[trait](other) == pytest.approx(TRAITS[trait](audio), rel=0.05, abs=0.01)


@pytest.mark.parametrize("trait", sorted(TRAITS))
def test_a_single_sample_and_silence_have_traits(trait: str) -> None:
    assert math.isfinite(TRAITS[trait](Audio(torch.ones(1), 8000)))
    assert math.isfinite(TRAITS[trait](Audio(torch.zeros(100), 8000)))


def test_a_copy_is_found_wherever_it_is_cut_from_and_a_semitone_higher_too() -> None:
    known = [melody(seed, seconds=seconds) for seed, seconds in ((1, 8.0), (2, 2.0), (3, 10.0), (4, 8.0))]
    copied = -0.2 * known[2].samples[:, 71_234 : 71_234 + 3 * RATE]
    higher = melody(4, seconds=8.0, lowest=220 * 2 ** (1 / 12)).samples[:, 40_000 : 40_000 + 3 * RATE]
    clips = [melody(5, seconds=3.0), *(Audio(audio, RATE) for audio in (copied, higher, torch.zeros(1, 3 * RATE)))]
    values, which = likeness(clips, known)
    assert which.tolist()[1:3] == [2, 3]
    assert float(values[1:3].min()) > 0.9
    assert float(values[0]) < 0.8
    assert float(values[3]) < 0.1


def test_a_copy_is_found_by_clips_of_unequal_length() -> None:
    known = [melody(seed, seconds=3.0) for seed in range(2)]
    short = Audio(known[1].samples[:, RATE : RATE + RATE * 3 // 2], RATE)
    values, which = likeness([known[0], short, melody(5, seconds=3.0)], known)
    assert which.tolist()[:2] == [0, 1]
    assert float(values[:2].min()) > 0.9
    alone, _ = likeness([short], known)
    torch.testing.assert_close(values[1:2], alone)


def test_music_of_unequal_length_is_evaluated() -> None:
    generated = [melody(20 + seed, seconds=seconds) for seed, seconds in enumerate((3.0, 1.5, 3.0, 1.5))]
    reference, train = ([melody(seed + first, seconds=3.0) for seed in range(4)] for first in (0, 10))
    report = evaluate_generation(generated, reference, train=train, embedding="tonal", music=True, draws=2)
    assert len(report.neighbours["generated"].closest) == 4


def test_the_tonal_embedding_hears_colour_harmony_and_pace() -> None:
    slow, fast, other, low = (
        tonal([audio]).embeddings[0]
        for audio in (melody(pace=2), melody(pace=8), melody(1, pace=2), melody(lowest=110))
    )
    assert slow.shape == (77,)
    assert float((fast - slow)[-1]) > 1
    assert float((other - slow)[-1].abs()) < 0.5
    assert float((low - slow)[:32].norm()) > 1
    assert colour(melody()).shape[0] == 32


def test_a_report_on_music_has_traits_with_their_range_and_finds_copies() -> None:
    reference = [melody(seed, seconds=6.0) for seed in range(4)]
    train = [melody(10 + seed, seconds=6.0) for seed in range(5)]
    generated = [melody(20 + seed, seconds=3.0) for seed in range(3)]
    generated.append(Audio(0.5 * train[3].samples[:, 2 * RATE : 5 * RATE], RATE))
    report = evaluate_generation(generated, reference, train=train, embedding="tonal", music=True, draws=3)
    assert report.clips == {"generated": 4, "reference": 4, "train": 5}
    assert report.excerpts == {"generated": 4, "reference": 8, "train": 10}
    assert set(report.traits["generated"]) == set(TRAITS)
    lengths = [onsets(audio) for audio in reference]
    assert (report.traits["reference"]["onsets"].least, report.traits["reference"]["onsets"].most) == (
        min(lengths),
        max(lengths),
    )
    assert report.neighbours["generated"].closest[0][:2] == (3, 3)
    assert report.neighbours["generated"].closest[0][2] > 0.9
