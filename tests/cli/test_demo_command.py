"""hiss demo: from nothing to a trained model, sounds and a picture."""

from pathlib import Path

import pytest
from command_line import RECIPE, hiss, names, refused, tiny_model
from denoisers import tiny_denoiser

from hiss.training.recipe import recipes


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose only recipe and only model are tiny."""
    shelf = tmp_path_factory.mktemp("shelf")
    (shelf / "tones.yaml").write_text(RECIPE)
    tiny_model(shelf / "digits")
    tiny_denoiser().save_pretrained(shelf / "denoise-16k")
    monkeypatch.setattr("hiss.training.recipe._shelf", lambda: shelf)
    monkeypatch.setattr("hiss.pipeline._shelf", lambda: shelf)


@pytest.mark.usefixtures("small")
def test_the_demo_trains_generates_denoises_draws_and_says_what_to_try_next() -> None:
    result = hiss("demo")
    assert result.exit_code == 0, result.output
    sounds = [
        "denoise-16k-speech.wav",
        "digits-7.wav",
        "digits-8.wav",
        *(f"my-tones-{index}.wav" for index in range(4)),
        "noisy-speech.wav",
    ]
    assert names(Path("demo")) == [*sounds, "sounds.png", "tones-model"]
    assert sorted(result.stdout.split()) == [f"demo/{name}" for name in [*sounds, "sounds.png"]]
    assert "hiss generate --model demo/tones-model/model" in result.stderr
    assert hiss("generate", "--model", "demo/tones-model/model").exit_code == 0


@pytest.mark.usefixtures("small")
def test_a_second_demo_in_the_same_folder_works() -> None:
    assert hiss("demo", "-o", "again").exit_code == 0
    assert hiss("demo", "-o", "again").exit_code == 0


def test_the_demo_refuses_a_place_that_cannot_be_written() -> None:
    Path("taken").write_text("")
    refused(hiss("demo", "-o", "taken"), 1, says="cannot write in taken")


@pytest.mark.slow
@pytest.mark.skipif("tones" not in recipes(), reason="the package has no tones recipe")
def test_the_demo_works_with_what_comes_with_the_package() -> None:
    result = hiss("demo", "--minutes", 0.1)
    assert result.exit_code == 0, result.output
    assert "sounds.png" in names(Path("demo"))
