"""hiss demo: a tour of the bundled models, a first model of one's own, and a page of it all."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import RECIPE, hiss, names, refused, tiny_model
from denoisers import tiny_denoiser

from hiss.cli.demo import TOUR, Stop
from hiss.errors import MissingPackageError
from hiss.pipeline import Pipeline, bundled, load
from hiss.training.recipe import recipes, run_recipe
from hiss.training.trainer import Result


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shelf of a package whose only recipe and only models are tiny."""
    shelf = tmp_path_factory.mktemp("shelf")
    (shelf / "tones.yaml").write_text(RECIPE)
    tiny_model(shelf / "digits")
    tiny_denoiser().save_pretrained(shelf / "denoise-16k")
    monkeypatch.setattr("hiss.training.reading._shelf", lambda: shelf)
    monkeypatch.setattr("hiss.pipeline._shelf", lambda: shelf)
    return shelf


SOUNDS = [
    "denoise-16k-clean.wav",
    "denoise-16k-noisy.wav",
    "digits-7.wav",
    "digits-8.wav",
    *(f"tones-model-{index}.wav" for index in range(1, 5)),
]


@pytest.mark.usefixtures("small")
def test_the_tour_denoises_generates_trains_and_leaves_a_page_that_needs_nothing_from_elsewhere() -> None:
    result = hiss("demo")
    assert result.exit_code == 0, result.output
    assert names(Path("demo")) == [*SOUNDS[:4], "index.html", "tones-model", *SOUNDS[4:]]
    assert result.stdout.split() == [f"demo/{name}" for name in (SOUNDS[1], SOUNDS[0], *SOUNDS[2:], "index.html")]
    assert "hiss generate --model demo/tones-model/model" in result.stderr
    assert hiss("generate", "--model", "demo/tones-model/model").exit_code == 0
    page = Path("demo/index.html").read_text()
    assert page.count('<audio controls src="data:audio/wav;base64,') == len(SOUNDS)
    assert page.count('src="data:image/png;base64,') == 3
    assert re.findall(r"(?:src|href)=\"(?!data:)|https?:|//", re.sub(r"base64,[^\"]*", "", page)) == []
    assert "default-src 'none'" in page


def test_a_task_whose_model_is_missing_is_left_out_without_a_word(small: Path) -> None:
    tiny_model(small / "classical")
    shutil.rmtree(small / "denoise-16k")
    result = hiss("demo")
    assert result.exit_code == 0, result.output
    assert {"classical-7.wav", "digits-7.wav"} <= set(names(Path("demo")))
    assert not re.search("denoise|Noise out|sounds|from words", result.output)
    assert "hiss generate --model classical" in result.stderr


@pytest.mark.usefixtures("small")
def test_a_model_whose_package_is_missing_is_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str | Path) -> Pipeline:
        if name == "digits":
            raise MissingPackageError("text needs tokenizers")
        return load(name)

    monkeypatch.setattr("hiss.pipeline.load", lacking)
    result = hiss("demo")
    assert result.exit_code == 0, result.output
    assert "the model digits is left out: text needs tokenizers" in result.stderr
    assert "--model digits" not in result.stderr
    assert names(Path("demo")) == [*SOUNDS[:2], "index.html", "tones-model", *SOUNDS[4:]]


@pytest.mark.usefixtures("small")
def test_a_model_that_reads_text_is_asked_for_the_sentences_of_its_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiss.cli.demo.TOUR", (Stop("digits", "Words", "From words.", prompts=("8", "7")),))
    assert hiss("demo").exit_code == 0
    assert re.findall("<figcaption>(.*?)<", Path("demo/index.html").read_text())[:2] == ["8", "7"]


@pytest.mark.usefixtures("small")
def test_what_there_is_to_hear_is_kept_if_the_training_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object, **named: object) -> Result:
        return replace(run_recipe(*given, **named), ended="SIGINT")  # type: ignore[arg-type]

    monkeypatch.setattr("hiss.training.recipe.run_recipe", interrupted)
    assert hiss("demo").exit_code == 130
    assert "index.html" in names(Path("demo"))


def test_every_bundled_model_is_a_stop_of_the_tour() -> None:
    assert set(bundled()) <= {stop.model for stop in TOUR}


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
    assert "index.html" in names(Path("demo"))
