"""Reports on generated sets: real ones score the floor, bad ones do not, copies are found, wrong use is refused."""

import json
import os
from collections.abc import Sequence

import pytest
import torch

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.clips import read_clips
from hiss.evaluation.embeddings import EMBEDDINGS, Heard, questions
from hiss.evaluation.generation import Listener, Spread, evaluate_generation, usual

PITCHES = {"low": 200.0, "middle": 700.0, "high": 2000.0}


def tones(clips: int, seed: int, *, names: Sequence[str] = tuple(PITCHES), rate: int = 8000) -> list[Audio]:
    """Returns tones near the pitches named, in turn, each with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(rate // 4) / rate
    result = []
    for clip in range(clips):
        pitch = PITCHES[names[clip % len(names)]] * (0.9 + 0.2 * torch.rand(1, generator=generator))
        noise = torch.randn(len(time), generator=generator)
        result.append(Audio(0.3 * torch.sin(2 * torch.pi * pitch * time) + 0.003 * noise, rate))
    return result


def by_pitch(clips: Sequence[Audio]) -> Heard:
    """Listens for one thing only: which of the pitches the strongest frequency is nearest to."""
    spectra = torch.stack([torch.fft.rfft(clip.samples[0]).abs() for clip in clips])
    hz = spectra.argmax(dim=1)[:, None] * 4.0
    away = (hz.log() - torch.tensor(list(PITCHES.values())).log()).abs()
    return Heard(hz.log(), {"pitch": tuple(PITCHES)}, {"pitch": torch.softmax(-20 * away, dim=1)})


def test_recordings_of_the_same_kind_score_like_the_floor() -> None:
    report = evaluate_generation(tones(60, 0), tones(40, 1), train=tones(120, 2), embedding="logmel", draws=10)
    assert report.clips == {"generated": 60, "reference": 40, "train": 120}
    assert report.figures["fad"] < 2 * report.floor["fad"].mean
    assert report.figures["kad"] < 3 * report.chance["kad"].high
    assert report.neighbours["generated"].distance.median < 1.3 * report.neighbours["reference"].distance.median


def test_noise_and_a_missing_kind_score_far_worse_than_the_floor() -> None:
    reference = tones(40, 1)
    generator = torch.Generator().manual_seed(0)
    noise = [Audio(0.1 * torch.randn(2000, generator=generator), 8000) for _ in range(40)]
    for bad in (noise, tones(40, 0, names=["low", "middle"])):
        report = evaluate_generation(bad, reference, train=tones(120, 2), embedding="logmel", draws=10)
        assert report.figures["fad"] > 2 * report.floor["fad"].high
        assert report.figures["kad"] > 3 * report.chance["kad"].high
        assert report.figures["vendi"] < report.floor["vendi"].low


def test_accuracy_is_counted_as_asked_for_all_and_by_class() -> None:
    asked = [{"pitch": name} for name in ("low", "middle", "high", "low", "middle", "low")] + [{}] * 3
    report = evaluate_generation(tones(9, 0), tones(12, 1), embedding=by_pitch, asked=asked, draws=3)
    assert report.accuracy == {"pitch": 5 / 6}
    assert report.class_accuracy == {"pitch": {"low": 2 / 3, "middle": 1.0, "high": 1.0}}
    assert report.reference_accuracy == {}


def test_the_listener_is_tested_on_the_reference() -> None:
    labels = [{"pitch": name} for name in PITCHES] * 3 + [{"pitch": "low"}] * 3
    report = evaluate_generation(tones(9, 0), tones(12, 1), embedding=by_pitch, labels=labels, draws=3)
    assert report.reference_accuracy == {"pitch": 10 / 12}
    assert report.accuracy == {}


def test_variety_is_the_effective_number_of_classes() -> None:
    reference = tones(12, 1)
    even = evaluate_generation(tones(9, 0), reference, embedding=by_pitch, draws=3)
    one = evaluate_generation(tones(9, 0, names=["high"]), reference, embedding=by_pitch, draws=3)
    assert even.shares["pitch"] == pytest.approx({"low": 1 / 3, "middle": 1 / 3, "high": 1 / 3})
    assert even.effective_classes["pitch"] == pytest.approx(3)
    assert one.effective_classes["pitch"] == pytest.approx(1)
    assert one.figures["inception pitch"] == pytest.approx(1, abs=0.05)
    assert even.figures["inception pitch"] > 2


def test_copies_of_training_clips_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    train = [Audio(0.1 * torch.randn(2000, generator=generator), 8000) for _ in range(30)]
    fresh = [Audio(0.1 * torch.randn(2000, generator=generator), 8000) for _ in range(8)]
    copied = [*fresh[:4], Audio(0.5 * train[17].samples, 8000)]
    found = evaluate_generation(copied, fresh, train=train, embedding="logmel", draws=3).neighbours
    assert found["generated"].closest[0][:2] == (4, 17)
    assert found["generated"].closest[0][2] == pytest.approx(1, abs=1e-4)
    assert found["reference"].correlation.high < 0.5


def test_levels_count_clipped_and_silent_recordings() -> None:
    generated = [Audio(torch.full((100,), value), 8000) for value in (1.0, 0.1, 0.0, 0.0)]
    levels = evaluate_generation(generated, tones(6, 0), embedding="logmel", draws=2).levels["generated"]
    assert (levels.clipped, levels.silent) == (0.25, 0.5)
    assert levels.peak.high == pytest.approx(-3)  # 0, -20, -120 and -120 dBFS: 15 % of the way from the highest


def test_without_training_clips_the_floor_comes_from_halves_of_the_reference() -> None:
    report = evaluate_generation(tones(10, 0), tones(20, 1), embedding="logmel", draws=5)
    assert report.neighbours == {}
    assert report.floor["fad"].mean > 0
    assert set(report.chance) == {"fad", "kad"}


def test_far_more_sounds_than_recordings_to_compare_with_can_be_judged() -> None:
    assert evaluate_generation(tones(20, 0), tones(4, 1), embedding="logmel", draws=2).clips["generated"] == 20


def test_a_report_repeats_with_its_seed_and_becomes_json() -> None:
    first, second = (
        evaluate_generation(tones(10, 0), tones(20, 1), train=tones(20, 2), embedding="logmel", draws=4)
        for _ in range(2)
    )
    assert first == second
    assert json.loads(json.dumps(first.to_dict()))["figures"] == first.to_dict()["figures"]


@pytest.mark.parametrize("name", sorted(EMBEDDINGS))
def test_every_embedding_takes_any_rate_length_channels_and_silence(name: str) -> None:
    clips = [
        Audio(torch.zeros(1, 800), 8000),
        Audio(0.1 * torch.randn(2, 30000, generator=torch.Generator().manual_seed(0)), 44100),
        tones(1, 0, rate=16000)[0],
    ]
    embeddings = EMBEDDINGS[name](clips).embeddings
    assert embeddings.shape[0] == 3
    assert torch.isfinite(embeddings).all()
    louder = EMBEDDINGS[name]([Audio(5 * clips[2].samples, 16000)]).embeddings
    torch.testing.assert_close(louder[0], embeddings[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(EMBEDDINGS))
def test_an_embedding_hears_what_the_report_says(name: str) -> None:
    listener = Listener.of(EMBEDDINGS[name], None)
    assert listener.embedding == name
    assert listener.sample_rate is not None
    generator = torch.Generator().manual_seed(0)
    noise = Audio(0.1 * torch.randn(48000, generator=generator), 48000)
    heard = EMBEDDINGS[name]([noise]).embeddings
    assert torch.equal(heard, EMBEDDINGS[name]([noise.resample(listener.sample_rate)]).embeddings)
    if listener.loudest is not None:
        seconds = torch.arange(8 * listener.sample_rate) / listener.sample_rate
        clip = 0.1 * torch.randn(len(seconds), generator=generator)
        loud = (seconds >= 2) & (seconds < 2 + listener.loudest)
        clip[~loud] *= 0.1
        whole, part = (Audio(samples, listener.sample_rate) for samples in (clip, clip[loud]))
        torch.testing.assert_close(EMBEDDINGS[name]([whole]).embeddings, EMBEDDINGS[name]([part]).embeddings)


def test_a_report_says_what_listened() -> None:
    clips = tones(6, 0)
    judged = evaluate_generation(clips, clips, embedding="digits", draws=2).to_dict()
    assert judged["listener"] == {"embedding": "digits", "sample_rate": 8000, "excerpt": None, "loudest": 1.0}
    cut = evaluate_generation(clips, clips, embedding="logmel", excerpt=0.1, draws=2)
    assert cut.listener == Listener("logmel", 32000, 0.1, None)
    assert Listener.of(EMBEDDINGS["music"], 5) == Listener("music", 16000, 5, 3.0)
    assert Listener.of(by_pitch, None) == Listener(None, None, None, None)


def test_the_judge_of_digits_is_usual_only_for_what_it_knows() -> None:
    digits = [{"digit": "7"}, {"speaker": "theo"}]
    assert usual(digits) == "digits"
    unknown: list[list[dict[str, str]]] = [[], [{}], [*digits, {}], [{"digit": "11"}], [{"instrument": "oboe"}]]
    assert [usual(labels) for labels in (None, *unknown)] == ["logmel"] * 6
    assert usual(digits, music=True) == usual(None, music=True) == "music"
    clips = tones(6, 0)
    assert evaluate_generation(clips, clips, draws=2).listener.embedding == "logmel"
    assert evaluate_generation(clips, clips, labels=digits * 3, draws=2).listener.embedding == "digits"


def test_wrong_use_is_refused_in_a_sentence() -> None:
    clips = tones(6, 0)
    with pytest.raises(UsageError, match="unknown embedding 'mel'"):
        evaluate_generation(clips, clips, embedding="mel")
    with pytest.raises(HissError, match="the reference set has 3 recordings; an evaluation needs at least 4"):
        evaluate_generation(clips, clips[:3], embedding="logmel")
    with pytest.raises(HissError, match="recording 1 of the generated set has no samples"):
        evaluate_generation([clips[0], Audio(torch.zeros(0), 8000), *clips], clips, embedding="logmel")
    with pytest.raises(UsageError, match="2 labels came for 6 generated recordings"):
        evaluate_generation(clips, clips, embedding=by_pitch, asked=[{}, {}], draws=2)
    with pytest.raises(UsageError, match="unknown pitch 'lowest'"):
        evaluate_generation(clips, clips, embedding=by_pitch, asked=[{"pitch": "lowest"}] * 6, draws=2)


def test_an_embedding_tells_what_it_tells_apart() -> None:
    assert questions("logmel") == {}
    assert questions("digits")["digit"] == tuple("0123456789")
    with pytest.raises(UsageError, match="unknown embedding 'mel'"):
        questions("mel")


def test_the_spread_of_a_hundred_and_one_numbers() -> None:
    spread = Spread.of([float(value) for value in range(101)])
    assert (spread.mean, spread.low, spread.median, spread.high) == pytest.approx((50, 5, 50, 95))


def test_real_digits_score_the_floor_on_the_model_card() -> None:
    if "HISS_DATA" not in os.environ:
        pytest.skip("HISS_DATA is not set: the digits pack is not at hand")
    train, test = (
        [clip.audio for clip in read_clips(f"$HISS_DATA/digits/digits-{split}-*.tar")] for split in ("train", "test")
    )
    report = evaluate_generation(train[::9], test, train=train, embedding="digits", draws=10)
    assert report.floor["fad"].mean == pytest.approx(4, abs=1.0)
    assert report.floor["inception digit"].mean == pytest.approx(6.2, abs=0.3)
    assert report.neighbours["reference"].distance.median == pytest.approx(3.25, abs=0.2)
    assert report.neighbours["generated"].distance.high < 0.1  # these are training clips
