"""The judge of spoken digits: its weights, invariances, silence, files; accuracy where the digits pack is at hand."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.clips import Clip, read_clips
from hiss.evaluation.embeddings import judged
from hiss.evaluation.judge import Judge, JudgeConfig
from hiss.evaluation.train_judge import LESSONS, configured, disturb, explained, mask, precision_and_recall, train


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.from_pretrained("digits")


def hum(clips: int = 5, samples: int = 4000, seed: int = 0) -> Tensor:
    """Returns [clips, samples] of noise that swells and fades."""
    noise = torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * torch.hann_window(samples)


def test_the_bundled_judge_is_small_and_ready(judge: Judge) -> None:
    assert judge.config.heads["digit"] == tuple("0123456789")
    assert len(judge.config.heads["speaker"]) == 6
    assert not judge.training
    assert sum(parameter.numel() for parameter in judge.parameters()) < 400_000


def test_embeddings_do_not_depend_on_the_batch_and_repeat_exactly(judge: Judge) -> None:
    audio = hum()
    together, again = judge.embed(audio), judge.embed(audio)
    alone = torch.cat([judge.embed(clip[None]) for clip in audio])
    assert together.shape == (5, judge.config.features)
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_level_and_silence_behind_the_clip_make_no_difference(judge: Judge) -> None:
    audio = hum()
    expected = judge.embed(audio)
    torch.testing.assert_close(judge.embed(0.003 * audio), expected, rtol=1e-3, atol=1e-3)
    padded = torch.nn.functional.pad(audio, (0, 9000))
    torch.testing.assert_close(judge.embed(padded), expected, rtol=1e-3, atol=1e-3)


def test_of_a_long_clip_the_loudest_second_is_judged(judge: Judge) -> None:
    audio = hum(samples=8000)
    long = torch.cat([1e-4 * hum(samples=6000, seed=1), audio, torch.zeros(5, 3000)], dim=1)
    torch.testing.assert_close(
        judge.spectrum(long).amax(dim=(1, 2)), judge.spectrum(audio).amax(dim=(1, 2)), rtol=0.02, atol=0
    )


def test_probabilities_sum_to_one_even_of_silence(judge: Judge) -> None:
    for audio in (hum(), torch.zeros(2, 8000), torch.zeros(1, 3)):
        for question, probabilities in judge.classify(audio).items():
            assert probabilities.shape == (len(audio), len(judge.config.heads[question]))
            torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(audio)))
    assert not judge.spectrum(torch.zeros(1, 8000)).any()


def test_a_judge_survives_saving(tmp_path: Path) -> None:
    judge = Judge(JudgeConfig(heads={"pitch": ("low", "high")}, channels=(4, 8), features=3)).eval()
    judge.save_pretrained(tmp_path / "judge")
    again = Judge.from_pretrained(tmp_path / "judge")
    assert again.config == judge.config
    torch.testing.assert_close(again.embed(hum()), judge.embed(hum()), rtol=0.01, atol=0.01)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    Judge(JudgeConfig(heads={}, channels=(4,))).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(HissError, match="holds no readable judge"):
        Judge.from_pretrained(tmp_path)


def test_an_unknown_judge_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"unknown judge 'digit' \(did you mean 'digits'\?\)"):
        Judge.from_pretrained("digit")


def test_a_folder_without_weights_holds_no_judge(tmp_path: Path) -> None:
    with pytest.raises(HissError, match="holds no readable judge"):
        Judge.from_pretrained(tmp_path)


def test_disturbed_recordings_fill_the_clip_and_a_seed_repeats_them() -> None:
    config = JudgeConfig(heads={})
    first, second = (disturb(hum()[0], config, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (config.samples,)
    assert torch.equal(first, second)


def test_masking_silences_bands_and_frames_and_changes_nothing_else() -> None:
    spectrum = torch.ones(8, 40, 101)
    masked = mask(spectrum, torch.Generator().manual_seed(0))
    assert set(masked.flatten().tolist()) == {0.0, 1.0}
    assert (masked.sum(dim=(1, 2)) > 0.6 * 40 * 101).all()


def test_training_learns_to_tell_two_tones_apart_and_repeats_with_its_seed() -> None:
    time = torch.arange(2000) / 8000
    clips = [
        Clip(name, Audio(torch.sin(2 * torch.pi * pitch * (1 + index / 200) * time), 8000), {"pitch": name})
        for index in range(16)
        for name, pitch in (("low", 300), ("high", 1500))
    ]
    config = JudgeConfig(heads={"pitch": ("low", "high")}, channels=(4, 8), features=4)
    judge, again = (train(clips, config, epochs=8, batch=8, rate=1e-2) for _ in range(2))
    audio, labels = [clip.audio for clip in clips], [clip.labels(config.heads) for clip in clips]
    assert judged(judge)(audio).accuracy(labels) == {"pitch": 1.0}
    assert torch.equal(judge.embed(hum()), again.embed(hum()))


def test_a_clip_counts_for_the_questions_that_its_metadata_answer() -> None:
    time = torch.arange(2000) / 8000
    clips = []
    for index in range(24):
        pitch, clicks = ("low", "high")[index % 2], ["click"] if index % 3 == 0 else []
        audio = torch.sin(2 * torch.pi * {"low": 300, "high": 1500}[pitch] * (1 + index / 300) * time)
        audio[1000] += 5.0 * len(clicks)
        metadata: list[dict[str, object]] = [{"pitch": pitch}, {"sounds": clicks}, {"pitch": pitch, "sounds": clicks}]
        clips.append(Clip(str(index), Audio(audio, 8000), metadata[index % 3 - 1]))
    config = JudgeConfig(
        heads={"pitch": ("low", "high")}, tags={"sounds": ("click",)}, samples=2000, channels=(4, 8), features=4
    )
    judge = train(clips, config, epochs=30, batch=8, rate=1e-2, speed=0.0)
    asked = [clip for clip in clips if "pitch" in clip.metadata]
    assert len(asked) == 16
    accuracy = judged(judge)([clip.audio for clip in asked]).accuracy([clip.labels(config.heads) for clip in asked])
    assert accuracy["pitch"] > 0.8
    precision, recall = precision_and_recall(judge, clips, "sounds")
    assert min(precision, recall) > 0.8


def test_the_classes_of_a_judge_are_those_of_its_training_clips() -> None:
    sound = {"label": "flute", "family": "woodwind", "kind": "scale", "midi_notes": [60, 64]}
    piece = {"label": "classical", "ensemble": "piano", "composer": "Bach"}
    clips = [Clip("", Audio(torch.zeros(1), 8000), explained(one)) for one in (sound, piece)]
    config = configured(LESSONS["music"], clips)
    assert config.heads["instrument"] == ("flute",)
    assert config.heads["composer"] == ("Bach",)
    assert clips[0].metadata["pitch"] == ["C", "E"]
    assert "pitch" not in explained(sound | {"family": "drums"})


def test_the_judge_of_music_knows_instruments_and_pitches() -> None:
    judge = Judge.from_pretrained("music")
    assert len(judge.config.heads["instrument"]) == 102
    assert judge.config.tags["pitch"][9] == "A"
    time = torch.arange(48_000) / 16_000
    envelope = torch.exp(-2 * time)
    tone = sum(envelope ** (0.5 * k) * torch.sin(2 * torch.pi * 440 * k * time) / k for k in (1, 2, 3, 4, 5))
    assert isinstance(tone, torch.Tensor)
    assert int(judge.odds(judge.embed(0.1 * tone[None]))["pitch"].argmax()) == 9


def test_test_sounds_are_recognised() -> None:
    if "HISS_DATA" not in os.environ:
        pytest.skip("HISS_DATA is not set: the sounds pack is not at hand")
    judge = Judge.from_pretrained("music")
    clips = read_clips("$HISS_DATA/sounds/sounds-test-*.tar")
    clips = [Clip(clip.name, clip.audio, explained(clip.metadata)) for clip in clips]
    accuracy = judged(judge)([clip.audio for clip in clips]).accuracy(
        [clip.labels({"family": judge.config.heads["family"]}) for clip in clips]
    )
    assert accuracy["family"] >= 0.75
    assert min(precision_and_recall(judge, clips, "pitch")) >= 0.8


def test_test_digits_are_recognised(judge: Judge) -> None:
    if "HISS_DATA" not in os.environ:
        pytest.skip("HISS_DATA is not set: the digits pack is not at hand")
    clips = read_clips("$HISS_DATA/digits/digits-test-*.tar")
    labels = [clip.labels(judge.config.heads) for clip in clips]
    assert all(set(label) == {"digit", "speaker"} for label in labels)
    accuracy = judged(judge)([clip.audio for clip in clips]).accuracy(labels)
    assert accuracy["digit"] >= 0.99
    assert accuracy["speaker"] >= 0.97
