"""What captions say of notes and tempo goes along with the pitch and speed of a recording."""

from pathlib import Path

import pytest
import torch

from hiss.audio import Audio
from hiss.captions import accelerate, notes, transpose
from hiss.data.folder import AudioFolder


@pytest.mark.parametrize(
    ("caption", "semitones", "expected"),
    [
        ("a low C on a flute", 2, "a low D on a flute"),
        ("a low C on a flute", 0, "a low C on a flute"),
        ("a harp in D flat minor, then F sharp", 1, "a harp in D minor, then G"),
        ("a C# and a B♭", -1, "a C and an A"),
        ("an A flat melody", 2, "a B flat melody"),
        ("a B scale", 1, "a C scale"),
        ("a C scale", -3, "an A scale"),
        ("two notes, B to D", 13, "two notes, C to E flat"),
        ("A flute plays A", 2, "A flute plays B"),
        ("A dog barks. A cat meows; it is an A.", 2, "A dog barks. A cat meows; it is a B."),
        ("A flat major on a harp", 1, "A major on a harp"),
        ("A-Ha, B-side, DJ and Cello don't change", 5, "A-Ha, B-side, DJ and Cello don't change"),
        ("", 3, ""),
    ],
)
def test_notes_are_transposed(caption: str, semitones: int, expected: str) -> None:
    assert transpose(caption, semitones) == expected


def test_transposing_there_and_back_names_the_same_notes() -> None:
    caption = "an F sharp minor arpeggio from A flat to D sharp, in E"
    for semitones in range(-14, 15):
        away = transpose(caption, semitones)
        pitches = [pitch for _, pitch in notes(away)]
        assert pitches == [(pitch + semitones) % 12 for pitch in (6, 8, 3, 4)]
        assert [pitch for _, pitch in notes(transpose(away, -semitones))] == [6, 8, 3, 4]


def test_beats_per_minute_go_with_the_speed() -> None:
    assert accelerate("an 808 drum kit at 100 beats per minute", 1.125) == "an 808 drum kit at 112 beats per minute"
    assert accelerate("90.5 BPM, 3 hits", 2) == "181 BPM, 3 hits"
    assert accelerate("90 bpm", 1) == "90 bpm"


def test_a_clip_that_is_played_higher_has_a_caption_that_says_so(tmp_path: Path) -> None:
    rate = 16000
    Audio(0.5 * torch.sin(2 * torch.pi * 523.25 * torch.arange(2 * rate) / rate), rate).save(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("a C at 120 beats per minute")
    data = AudioFolder(path=str(tmp_path), pitch=2.5, tuned=True).open(sample_rate=rate, channels=1, samples=rate)
    batch = next(data.batches(40, seed=0))
    said = {"a B flat": -2, "a B": -1, "a C": 0, "a C sharp": 1, "a D": 2}
    found = set()
    for audio, prompt in zip(batch.audio, batch.prompts, strict=True):
        assert prompt.text is not None
        name, tempo = prompt.text.removesuffix(" beats per minute").split(" at ")
        hertz = float(torch.fft.rfft(audio[0, :8000], n=rate * 4).abs().argmax()) / 4
        assert hertz == pytest.approx(523.25 * 2 ** (said[name] / 12), abs=1.5)
        assert int(tempo) == round(120 * 2 ** (said[name] / 12))
        found.add(said[name])
    assert found == {-2, -1, 0, 1, 2}
    assert next(data.once(1)).prompts[0].text == "a C at 120 beats per minute"
