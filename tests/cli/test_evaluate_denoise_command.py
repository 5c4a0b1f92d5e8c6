"""hiss evaluate denoise: tables, JSON and a picture of a model's figures; wrong use in one sentence."""

import json
from pathlib import Path

import pytest
import torch
from command_line import hiss, refused

from hiss.audio import Audio
from hiss.errors import HissError


class Quieter:
    """Stands in for a pipeline: each step makes the recording softer, and so does not hearing what is to come."""

    def denoise(self, audio: Audio, *, steps: int | None = None, causal: bool = False) -> Audio:
        return Audio(audio.samples * 0.5 ** ((steps or 1) + causal), audio.sample_rate)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the words that name two folders of two recordings each."""
    monkeypatch.setattr("hiss.pipeline.load", lambda name, device=None: Quieter())
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for name, level in (("a_0dB", 1.0), ("b_20dB", 0.1)):
        speech, noise = 0.1 * torch.randn(2, 8000, generator=generator)
        for folder, sound in (("clean", speech), ("noisy", speech + level * noise)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Audio(sound, 8000).save(tmp_path / folder / f"{name}.wav")
    return ["--clean", "clean", "--noisy", "noisy", "--model", "some", "--measure", "distances", "--measure", "levels"]


def test_figures_are_tables_overall_and_by_snr(folders: list[str]) -> None:
    result = hiss("evaluate", "denoise", *folders, "--steps", "1,2")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["system", "noisy", "some,", "1", "step", "some,", "2", "steps"]
    [levels] = [line for line in lines if line[:1] == ["level"]]
    assert [float(cell) for cell in levels[1:]] == pytest.approx([0, -6.02, -12.04], abs=0.1)
    assert ["snr", "system", "SI-SDR"] in lines
    assert [line[:3] for line in lines[-3:]] == [["20", "dB", "noisy"], ["20", "dB", "some,"], ["20", "dB", "some,"]]


def test_json_holds_every_file(folders: list[str]) -> None:
    report = json.loads(hiss("evaluate", "denoise", *folders, "--json").stdout)
    assert [system["name"] for system in report["systems"]] == ["noisy", "some"]
    assert report["systems"][0]["overall"]["si_sdr"] == pytest.approx(10, abs=0.3)
    assert report["systems"][1]["overall"]["level"] == pytest.approx(-6.02, abs=0.1)
    assert set(report["systems"][1]["file"]) == {"a_0dB", "b_20dB"}


def test_what_a_stream_makes_is_measured_as_well(folders: list[str]) -> None:
    report = json.loads(hiss("evaluate", "denoise", *folders, "--causal", "--json").stdout)
    assert report["systems"][1]["overall"]["level"] == pytest.approx(-12.04, abs=0.1)


def test_a_picture_is_drawn(folders: list[str]) -> None:
    pytest.importorskip("librosa")
    result = hiss("evaluate", "denoise", *folders, "--picture", "new/picture.png")
    assert result.exit_code == 0, result.output
    assert Path("new/picture.png").exists()
    assert "picture: new/picture.png" in result.stderr


def test_what_a_picture_needs_is_missed_before_the_work_begins(
    folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hiss.cli.extras.find_spec", lambda name: None)
    monkeypatch.setattr("hiss.pipeline.load", lambda name, device=None: pytest.fail("it began"))
    result = hiss("evaluate", "denoise", *folders, "--picture", "picture.png")
    refused(result, 1, says="the package matplotlib is missing; install it with: pip install 'hiss[plot]'")


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_picture_that_fails_does_not_lose_the_report(
    folders: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise HissError("the disk is full")

    monkeypatch.setattr("hiss.cli.extras.find_spec", lambda name: name)
    monkeypatch.setattr("hiss.evaluation.denoising.draw", full)
    whole = hiss("evaluate", "denoise", *folders, *words).stdout
    result = hiss("evaluate", "denoise", *folders, *words, "--picture", "picture.png")
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    assert len(result.stdout.splitlines()) == len(whole.splitlines()) > 1


@pytest.mark.parametrize("steps", ["0", "1,1", "two", "1,,2"])
def test_steps_are_different_numbers(folders: list[str], steps: str) -> None:
    refused(hiss("evaluate", "denoise", *folders, "--steps", steps), 2, says="--steps must be different whole numbers")


def test_folders_that_do_not_fit_are_refused(folders: list[str]) -> None:
    words = ("evaluate", "denoise", *folders)
    Audio(torch.zeros(7999), 8000).save("noisy/b_20dB.wav")
    refused(hiss(*words), 1, says="b_20dB is clean 8000 samples of 1 channels and noisy 7999 samples")
    Audio(torch.zeros(8000), 16000).save("noisy/b_20dB.wav")
    refused(hiss(*words), 1, says="b_20dB is clean at 8000 Hz but noisy at 16000 Hz")
    Path("noisy/b_20dB.wav").unlink()
    refused(hiss(*words), 1, says="b_20dB.wav has no noisy version in noisy")
    refused(hiss(*words, "--measure", "peskq"), 2, says="unknown measure 'peskq'")
