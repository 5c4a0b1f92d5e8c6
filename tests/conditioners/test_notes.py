"""The notes that a text names, as a condition."""

import pytest

from hiss.conditioners.notes import NotesConfig
from hiss.types import Prompt


@pytest.mark.parametrize(
    ("text", "pitches"),
    [
        ("a church organ holds a low C major chord", [0]),
        ("a flute plays two notes, E flat and then B, going up", [3, 11]),
        ("a high D flat note on a recorder, then C sharp", [1]),
        ("A snare drum roll", []),
        ("", []),
        (None, []),
    ],
)
def test_each_pitch_class_that_a_text_names_is_one(text: str | None, pitches: list[int]) -> None:
    vector = NotesConfig().build()([Prompt(text=text)]).vector
    assert vector is not None
    assert vector.tolist() == [[float(pitch in pitches) for pitch in range(12)]]


def test_one_prompt_does_not_change_what_another_means() -> None:
    together = NotesConfig().build()([Prompt(text="a flute plays C"), Prompt(text="a flute plays D"), Prompt()]).vector
    assert together is not None
    assert together.nonzero().tolist() == [[0, 0], [1, 2]]
