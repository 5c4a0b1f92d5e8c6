"""hiss data mix: noisy files at the SNR that was asked for, and what cannot be mixed."""

import json
from math import log10
from pathlib import Path

import pytest
import torch
from command_line import hiss, names, refused, tone
from torch import Tensor

from hiss.audio import Audio
from hiss.evaluation.pairs import find_pairs, read_pairs
from hiss.noise import seeded
from hiss.signal.mixing import level


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings in `clean`, two noises in `noise`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HISS_CACHE", str(tmp_path / "cache"))
    for folder in ("clean", "noise"):
        Path(folder).mkdir()
    tone(Path("clean/a.wav"))
    stereo = torch.randn(2, 3000, generator=seeded(0)) * (torch.arange(3000) < 1500)
    Audio(0.1 * stereo, 11025).save("clean/b.flac")
    for index in range(2):
        Audio(torch.randn(700, generator=seeded(index)) * 0.1, 16000).save(f"noise/n{index}.wav")
    return tmp_path


def mixed(*words: object, noise: str = "white", out: str = "out") -> Path:
    result = hiss("data", "mix", "--clean", "clean", "--noise", noise, "-o", out, *words)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    return Path(out)


@pytest.mark.parametrize("noise", ["white", "noise"])
@pytest.mark.parametrize("active", [False, True])
def test_every_recording_has_a_noisy_version_at_the_snr_that_was_asked_for(noise: str, active: bool) -> None:
    out = mixed("--snr", "-5:20", *(["--active"] if active else []), noise=noise)
    assert names(out) == ["noisy_a.json", "noisy_a.wav", "noisy_b.json", "noisy_b.wav"]
    for pair in read_pairs(find_pairs("clean", out)):
        facts = json.loads((out / f"noisy_{pair.name}.json").read_text())
        assert facts["measured"] == ("active" if active else "all")
        frame = round(0.02 * pair.clean.sample_rate) if active else None
        added = pair.noisy.samples - pair.clean.samples
        ratio = 20 * log10(float(level(pair.clean.samples, frame=frame) / level(added, frame=frame)))
        assert ratio == pytest.approx(facts["snr_db"], abs=0.01)
        assert pair.snr == facts["snr_db"]
        assert -5 <= facts["snr_db"] <= 20
        assert facts["noise"] in (["white"] if noise == "white" else ["n0.wav", "n1.wav"])


def test_one_number_is_the_snr_of_all_and_loud_noise_is_not_cut_off() -> None:
    out = mixed("--snr", "-20")
    for pair in read_pairs(find_pairs("clean", out)):
        assert pair.snr == -20
    assert Audio.load(out / "noisy_a.wav").peak > 1


def test_the_seed_fixes_a_mixture_whatever_else_is_in_the_folder() -> None:
    def samples(seed: int, out: str) -> Tensor:
        """The header of a file of floating point says in which second it was written, so files may differ."""
        return Audio.load(mixed("--seed", seed, noise="noise", out=out) / "noisy_a.wav").samples

    one = samples(3, "out")
    Path("clean/b.flac").unlink()
    assert torch.equal(samples(3, "again"), one)
    assert not torch.equal(samples(4, "other"), one)


def test_folders_below_are_kept_and_what_has_no_level_is_named() -> None:
    Path("clean/below").mkdir()
    tone(Path("clean/below/a.wav"))
    Path("clean/broken.wav").write_bytes(b"no sound")
    Audio(torch.zeros(100), 8000).save("clean/silent.wav")
    result = hiss("data", "mix", "--clean", "clean", "-o", "out")
    assert result.exit_code == 0
    assert "skipped broken.wav" in result.stderr
    assert "skipped silent.wav: is silent" in result.stderr
    assert names(Path("out/below")) == ["noisy_a.json", "noisy_a.wav"]


def test_wrong_use_is_refused_in_one_sentence() -> None:
    def refuse(*words: object, status: int, says: str) -> None:
        refused(hiss("data", "mix", *words, "-o", "out"), status, says=says)

    refused(hiss("data", "mix", "--clean", "clean"), 2, says="--output")
    refuse("--clean", "clean", "--snr", "loud", status=2, says="a range such as -5:20, not 'loud'")
    refuse("--clean", "clean", "--snr", "9:1", status=2, says="from least to most dB, not from 9.0 to 1.0")
    refuse("--clean", "clean", "--snr", "nan", status=2, says="from least to most dB")
    refuse("--clean", "nowhere", status=1, says="there is no folder nowhere")
    refuse("--clean", "clean", "--noise", "nowhere", status=1, says="there is no folder nowhere")
    Audio(torch.zeros(100), 8000).save("noise/n0.wav")
    Path("noise/n1.wav").unlink()
    refuse("--clean", "clean", "--noise", "noise", status=1, says="n0.wav: is silent")
    tone(Path("clean/b.wav"))
    refuse("--clean", "clean", status=1, says="would both become out/noisy_b.wav")
    assert not Path("out").exists()


def test_a_clean_recording_is_never_replaced() -> None:
    Path("clean/b.flac").unlink()
    mixed(out="clean")
    refused(hiss("data", "mix", "--clean", "clean", "-o", "clean"), 2, says="is one of the recordings to mix")


@pytest.mark.parametrize("gain", [0.1, 0.0])
def test_a_noise_is_never_replaced_even_if_it_is_not_used(gain: float) -> None:
    noise = Path("noise/noisy_a.wav")
    Audio(gain * torch.ones(700), 16000).save(noise)
    before = noise.read_bytes()
    words = ("--clean", "clean", "--noise", "noise", "-o", "noise")
    refused(hiss("data", "mix", *words), 2, says="noisy_a.wav is one of the recordings to mix, and would be replaced")
    assert noise.read_bytes() == before
    assert names(Path("noise")) == ["n0.wav", "n1.wav", "noisy_a.wav"]


def test_a_noise_whose_channels_cancel_each_other_is_refused() -> None:
    Path("noise/n1.wav").unlink()
    wave = 0.1 * torch.randn(1, 700, generator=seeded(0))
    Audio(torch.cat([wave, -wave]), 16000).save("noise/n0.wav", subtype="FLOAT")
    says = "the noise n0.wav is silent wherever it starts, as the mean of its channels at"
    refused(hiss("data", "mix", "--clean", "clean", "--noise", "noise", "-o", "out"), 1, says=says)
    assert not Path("out").exists()


def test_a_noise_of_which_no_sample_is_left_is_refused() -> None:
    Path("noise/n1.wav").unlink()
    Audio(torch.full((1,), 0.1), 44100).save("noise/n0.wav")
    says = "the noise n0.wav is too short: nothing is left at"
    refused(hiss("data", "mix", "--clean", "clean", "--noise", "noise", "-o", "out"), 1, says=says)
    assert not Path("out").exists()
