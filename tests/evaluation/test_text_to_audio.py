"""Captions and recordings: what is said, what is heard, and the report that compares the two."""

import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.clap import AudioTowerConfig, ClapConfig, TextTowerConfig, begin
from hiss.errors import UsageError
from hiss.evaluation.adherence import Said, concordance, harmonic, melodic, onset_rate, plays, said
from hiss.evaluation.clips import read_clips
from hiss.evaluation.embeddings import Heard
from hiss.evaluation.text_to_audio import Captioned, evaluate_text
from hiss.noise import seeded

RATE = 16000


def tone(*hertz: float, seconds: float = 1.0, level: float = 0.5) -> Tensor:
    """Returns tones with overtones that sound together."""
    time = torch.arange(round(seconds * RATE)) / RATE
    waves = [torch.sin(2 * torch.pi * k * pitch * time) / k for pitch in hertz for k in (1, 2, 3)]
    wave = torch.stack(waves).sum(dim=0)
    return level * wave / wave.abs().max()


def strokes(rate: float, *, level: float = 0.5, seconds: float = 2.0) -> Tensor:
    """Returns decaying tones that begin `rate` times in a second."""
    time = torch.arange(round(seconds * RATE)) / RATE
    return level * torch.sin(2 * torch.pi * 440 * time) * torch.exp(-12 * (time % (1 / rate)))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("an ocarina holds a low A flat, loudly", Said(notes=(8,), loudness=1)),
        ("A bell plays a low A", Said(notes=(9,))),
        ("a quick F# on a flute", Said(notes=(6,), tempo=2)),
        ("a kalimba plays a trill between A flat and B flat", Said(notes=(8, 10), among=2)),
        ("a tuba melody in G minor, slow tempo, softly", Said(notes=(7,), among=3, tempo=0, loudness=0)),
        ("a C sharp major chord on a piano", Said(notes=(1,), among=3, chord=True)),
        ("broken C sharp major chord rising on a viola", Said(notes=(1,), among=3)),
        ("a gunshot, far away", Said(loudness=0)),
        ("a bass drum roll, rapid strokes", Said(tempo=3)),
        ("die Geige, forte 🎻", Said()),
    ],
)
def test_what_a_caption_says(caption: str, expected: Said) -> None:
    assert said(caption) == expected


def test_the_pitch_class_of_a_tone_is_heard_an_octave_away_as_well() -> None:
    for hertz in (220.0, 440.0):
        audio = Audio(tone(hertz), RATE)
        assert melodic(audio).argmax() == harmonic(audio).argmax() == 9


def test_the_notes_of_a_chord_are_heard_together() -> None:
    heard = harmonic(Audio(tone(261.63, 329.63, 392.0), RATE))
    assert set(heard.argsort(descending=True)[:3].tolist()) == {0, 4, 7}


def test_nothing_is_heard_in_silence() -> None:
    for samples in (0, 100, RATE):
        silence = Audio(torch.zeros(samples), RATE)
        assert not melodic(silence).any()
        assert not harmonic(silence).any()
        assert onset_rate(silence) == 0
    assert not plays((0,), 3, torch.zeros(12))


def test_all_named_notes_must_be_among_those_heard_most() -> None:
    heard = torch.zeros(12)
    heard[[0, 4, 7]] = torch.tensor([3.0, 2.0, 1.0])
    assert plays((0,), 1, heard)
    assert not plays((4,), 1, heard)
    assert plays((4, 0), 2, heard)
    assert plays((7,), 3, heard)
    assert not plays((7, 0), 2, heard)


@pytest.mark.parametrize("rate", [1.0, 4.0, 8.0])
def test_strokes_are_counted(rate: float) -> None:
    assert onset_rate(Audio(strokes(rate), RATE)) == pytest.approx(rate, rel=0.15)


def test_concordance_counts_pairs_in_order() -> None:
    assert concordance([0, 1, 2], [1.0, 2.0, 3.0]) == 1
    assert concordance([0, 1, 2], [3.0, 2.0, 1.0]) == 0
    assert concordance([0, 1], [1.0, 1.0]) == 0.5
    assert concordance([0, None, 1], [1.0, 9.0, 2.0]) == 1
    assert concordance([1, 1, None], [1.0, 2.0, 3.0]) is None


CAPTIONS = {"a slow low A, quietly": (220.0, 2.0, 0.1), "a fast C, loudly": (523.25, 6.0, 0.8)}


def captioned(caption: str, *, seed: int, like: str = "") -> Captioned:
    """Returns a recording that follows `caption`, or `like`, with a little noise."""
    hertz, rate, level = CAPTIONS[like or caption]
    time = torch.arange(RATE) / RATE
    wave = level * torch.sin(2 * torch.pi * hertz * time) * torch.exp(-12 * (time % (1 / rate)))
    noise = 1e-3 * torch.randn(RATE, generator=seeded("noise", seed))
    note = "A" if "A" in caption else "C"
    return Captioned(Audio(wave + noise, RATE), caption, {"note": note}, caption.split()[1])


def listen(clips: Sequence[Audio]) -> Heard:
    """Tells the two tones apart by their spectra."""
    spectra = torch.stack([torch.fft.rfft(clip.samples[0]).abs()[:1000].log1p() for clip in clips])
    first = spectra[:, 200:240].amax(dim=1) > spectra[:, 500:550].amax(dim=1)
    probabilities = torch.stack([first.float(), 1 - first.float()], dim=1)
    return Heard(spectra[:, ::50], {"note": ("A", "C")}, {"note": probabilities})


def test_the_report_tells_sounds_that_follow_from_those_that_do_not() -> None:
    real = [captioned(caption, seed=seed) for seed in range(3) for caption in CAPTIONS]
    made = [captioned(caption, seed=10 + seed) for seed in range(3) for caption in CAPTIONS]
    report = evaluate_text(made, real, embedding=listen)
    for name in ("note", "pitch", "tempo", "loudness"):
        figure = report.figures[name]
        assert (figure.generated, figure.real, figure.shuffled) == (1, 1, 0), name
    assert set(report.by_kind) == {"slow", "fast"}
    assert set(report.by_kind["slow"]) == {"note", "pitch"}
    assert report.diversity is not None
    assert report.diversity < 0.2
    first, second = CAPTIONS
    wrong = [
        captioned(one, seed=seed, like=other) for seed in (1, 2) for one, other in ((first, second), (second, first))
    ]
    assert evaluate_text(wrong, real, embedding=listen).figures["note"].generated == 0


def test_a_clap_scores_sounds_and_captions() -> None:
    config = ClapConfig(
        audio=AudioTowerConfig(n_fft=512, hop=256, bins=32, image=32, patch=4, width=4, depths=(1, 1), heads=(1, 1)),
        text=TextTowerConfig(width=8, layers=1, heads=1),
        features=8,
    )
    clips = [captioned(caption, seed=seed) for seed in range(2) for caption in CAPTIONS]
    clap = begin(config, CAPTIONS).eval().requires_grad_(False)
    report = evaluate_text(clips, clips, embedding=listen, clap=clap)
    scores = [float(clap.score([clip.caption], clip.audio.samples)) for clip in clips]
    assert report.figures["clap"].generated == pytest.approx(sum(scores) / 4, abs=1e-5)
    assert report.figures["clap"].generated == report.figures["clap"].real
    assert report.to_dict()["figures"]["clap"]["shuffled"] is not None


def test_sounds_without_captions_are_refused() -> None:
    clips = [captioned(caption, seed=seed) for seed in range(2) for caption in CAPTIONS]
    bare = [*clips[:3], Captioned(clips[3].audio, " ")]
    with pytest.raises(UsageError, match="1 of 4 generated recordings have no caption"):
        evaluate_text(bare, clips, embedding=listen)


def test_captions_that_are_all_the_same_have_no_diversity_and_no_pairs() -> None:
    clips = [captioned("a fast C, loudly", seed=seed) for seed in range(4)]
    report = evaluate_text(clips, clips, embedding=listen)
    assert report.diversity is None
    assert set(report.figures) == {"note", "pitch"}


def test_real_recordings_follow_their_captions() -> None:
    if "HISS_DATA" not in os.environ:
        pytest.skip("HISS_DATA is not set: the sounds pack is not at hand")
    clips = read_clips("$HISS_DATA/sounds/sounds-test-*.tar")[::10]
    meanings = [said(clip.metadata["text"]) for clip in clips]
    right = [
        plays(one.notes, one.among, (harmonic if one.chord else melodic)(clip.audio))
        for one, clip in zip(meanings, clips, strict=True)
        if one.notes
    ]
    assert sum(right) >= 0.7 * len(right)
    loudness = concordance([one.loudness for one in meanings], [clip.audio.peak for clip in clips])
    tempo = concordance([one.tempo for one in meanings], [onset_rate(clip.audio) for clip in clips])
    assert loudness is not None
    assert tempo is not None
    assert loudness > 0.95
    assert tempo > 0.6
