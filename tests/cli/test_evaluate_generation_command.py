"""hiss evaluate generation: what listens, how a model makes the sounds, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import hiss, refused, tiny_model

from hiss.audio import Audio
from hiss.pipeline import Pipeline


def noises(folder: Path, *, labels: list[str], seed: int = 0) -> Path:
    """Writes noise, a recording for each label."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for index, label in enumerate(labels):
        Audio(0.1 * torch.randn(4000, generator=generator), 8000).save(folder / f"{index}.wav")
        (folder / f"{index}.json").write_text(json.dumps({"label": label}))
    return folder


@pytest.mark.parametrize(
    ("labels", "options", "listener"),
    [
        (["7", "8", "7", "8"], (), {"embedding": "digits", "sample_rate": 8000, "excerpt": None, "loudest": 1.0}),
        (["7", "8", "7", "oboe"], (), {"embedding": "logmel", "sample_rate": 32000, "excerpt": None, "loudest": None}),
        (["7"] * 4, ("--music",), {"embedding": "music", "sample_rate": 16000, "excerpt": 3.0, "loudest": 3.0}),
        (
            ["7"] * 4,
            ("--embedding", "sounds"),
            {"embedding": "sounds", "sample_rate": 16000, "excerpt": None, "loudest": 3.0},
        ),
    ],
)
def test_what_listens_suits_the_reference_unless_it_is_chosen(
    tmp_path: Path, labels: list[str], options: tuple[str, ...], listener: dict[str, Any]
) -> None:
    real, made = noises(tmp_path / "real", labels=labels), noises(tmp_path / "made", labels=labels, seed=1)
    words = ("evaluate", "generation", "--reference", real, "--generated", made, *options, "--json")
    assert json.loads(hiss(*words).stdout)["listener"] == listener


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--embedding", "digits"), "digits at 8 kHz: the loudest 1 s of each recording"),
        (("--embedding", "digits", "--excerpt", 0.5), "digits at 8 kHz: all of each excerpt of 0.5 s"),
        (("--embedding", "digits", "--excerpt", 1.5), "digits at 8 kHz: the loudest 1 s of each excerpt of 1.5 s"),
        (("--embedding", "tonal"), "tonal at 22.05 kHz: all of each excerpt of 3 s"),
        ((), "logmel at 32 kHz: all of each recording"),
    ],
)
def test_the_table_says_what_listened_and_to_what(tmp_path: Path, options: tuple[object, ...], says: str) -> None:
    folders = [noises(tmp_path / name, labels=["noise"] * 4, seed=seed) for seed, name in enumerate(("real", "made"))]
    table = hiss("evaluate", "generation", "--reference", folders[0], "--generated", folders[1], *options)
    assert ["heard", "by", *says.split()] in [line.split() for line in table.stdout.splitlines()]


@pytest.mark.parametrize("command", ["generation", "text"])
def test_help_offers_what_decides_how_a_model_makes_the_sounds(command: str) -> None:
    told = hiss("evaluate", command, "--help").stdout
    assert all(option in told for option in ("--device", "--steps", "--guidance", "--sampler"))


def test_a_model_makes_the_sounds_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    generate = Pipeline.generate

    def watched(self: Pipeline, *prompts: Any, **options: Any) -> Any:
        seen.update(options)
        return generate(self, *prompts, **options)

    monkeypatch.setattr(Pipeline, "generate", watched)
    model, real = tiny_model(tmp_path / "tiny"), noises(tmp_path / "real", labels=["7"] * 4)
    words = ("evaluate", "generation", "--model", model, "--reference", real, "--count", 2)
    result = hiss(*words, "--steps", 3, "--sampler", "euler", "--guidance", 1.5, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert (seen["steps"], seen["sampler"], seen["guidance"]) == (3, "euler", 1.5)
    refused(hiss(*words, "--sampler", "walk"), 2, says="unknown sampler 'walk'")
    refused(hiss(*words, "--device", "abacus"), 2, says="abacus")


def test_how_a_model_makes_the_sounds_is_refused_without_one(tmp_path: Path) -> None:
    made = noises(tmp_path / "made", labels=["7"] * 4)
    words = ("--reference", made, "--generated", made)
    for option, value in (("--steps", 3), ("--sampler", "euler"), ("--guidance", 2), ("--device", "cpu")):
        says = f"{option} is about the sounds that --model makes; leave it out with --generated"
        refused(hiss("evaluate", "generation", *words, option, value), 2, says=says)
