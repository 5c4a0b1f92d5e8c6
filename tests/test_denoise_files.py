"""Denoising files: what comes out is the denoised recording, in the form of the file, whole or not at all."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from denoisers import RATE, noise, tiny_denoiser, write_noise

import hiss
from hiss.audio import Audio, Form, read_blocks
from hiss.denoise_files import Job, denoise_file, denoise_together
from hiss.errors import HissError, UsageError
from hiss.pipeline import Pipeline

LONG = """
import resource, sys
from pathlib import Path
import torch
from hiss.denoise_files import denoise_file

class Echo:
    latency = 0.0
    def push(self, samples, **_): return samples
    def finish(self): return torch.zeros(1, 0)

class Nothing:
    def stream(self, rate, channels, **_): return Echo()

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
denoise_file(Nothing(), *sys.argv[1:3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
"""Prints by how many KiB memory grows while a file passes."""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_denoiser()


def clean(pipeline: Pipeline, path: Path) -> torch.Tensor:
    return pipeline.denoise(Audio.load(path)).samples


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"), [(0.5, 8000, 1), (9.5, 8000, 1), (0.3, 96_000, 2), (0.01, 44_100, 6)]
)
def test_a_file_becomes_its_recording_without_the_noise(
    pipeline: Pipeline, seconds: float, rate: int, channels: int, tmp_path: Path
) -> None:
    noisy = write_noise(tmp_path / "noisy.wav", seconds, rate=rate, channels=channels)
    denoise_file(pipeline, noisy, tmp_path / "clean.wav")
    made = Audio.load(tmp_path / "clean.wav")
    assert made.sample_rate == rate
    torch.testing.assert_close(made.samples, clean(pipeline, noisy), atol=2**-14, rtol=0)
    assert not torch.allclose(made.samples, Audio.load(noisy).samples, atol=1e-3)


def test_a_file_is_cleaned_by_a_saved_model(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    noisy = write_noise(tmp_path / "noisy.wav")
    hiss.denoise_audio(tmp_path / "model", noisy, tmp_path / "clean.flac")
    torch.testing.assert_close(Audio.load(tmp_path / "clean.flac").samples, clean(pipeline, noisy), atol=2**-14, rtol=0)


@pytest.mark.parametrize(
    ("subtype", "name", "kept"),
    [("PCM_24", "a.wav", "PCM_24"), ("FLOAT", "a.wav", "FLOAT"), ("PCM_24", "a.flac", "PCM_24")],
)
def test_the_sample_format_stays(pipeline: Pipeline, subtype: str, name: str, kept: str, tmp_path: Path) -> None:
    noise().save(tmp_path / "noisy.wav", subtype=subtype)
    denoise_file(pipeline, tmp_path / "noisy.wav", tmp_path / name)
    assert soundfile.info(tmp_path / name).subtype == kept


def test_options_reach_the_model(pipeline: Pipeline, tmp_path: Path) -> None:
    noisy = write_noise(tmp_path / "noisy.wav")
    denoise_file(pipeline, noisy, tmp_path / "clean.wav", steps=2, keep_db=0.0)
    assert torch.equal(Audio.load(tmp_path / "clean.wav").samples, Audio.load(noisy).samples)
    with pytest.raises(UsageError, match="at least 1 step"):
        denoise_file(pipeline, noisy, tmp_path / "other.wav", steps=0)
    assert not (tmp_path / "other.wav").exists()


@pytest.mark.parametrize("samples", [torch.zeros(2, 9000), torch.zeros(1, 80)])
def test_digital_silence_stays_what_it_is(pipeline: Pipeline, samples: torch.Tensor, tmp_path: Path) -> None:
    Audio(samples, RATE).save(tmp_path / "silence.wav")
    denoise_file(pipeline, tmp_path / "silence.wav", tmp_path / "clean.wav")
    assert torch.equal(Audio.load(tmp_path / "clean.wav").samples, samples)


@pytest.mark.filterwarnings("default:the peak")
@pytest.mark.parametrize("samples", [torch.full((1, 8000), 0.5), 20 * noise(1.0).samples.clamp(-0.05, 0.05)])
def test_constant_and_clipped_recordings_are_cleaned_like_any_other(
    pipeline: Pipeline, samples: torch.Tensor, tmp_path: Path
) -> None:
    Audio(samples, RATE).save(tmp_path / "noisy.wav")
    denoise_file(pipeline, tmp_path / "noisy.wav", tmp_path / "clean.wav")
    made, wanted = Audio.load(tmp_path / "clean.wav"), Audio(clean(pipeline, tmp_path / "noisy.wav"), RATE)
    torch.testing.assert_close(made.samples, wanted.samples / max(1, wanted.peak), atol=2**-14, rtol=0)


def test_a_file_can_take_its_own_place(pipeline: Pipeline, tmp_path: Path) -> None:
    noisy = write_noise(tmp_path / "a.wav", 9.0)
    wanted = clean(pipeline, noisy)
    denoise_file(pipeline, noisy, noisy)
    torch.testing.assert_close(Audio.load(noisy).samples, wanted, atol=2**-14, rtol=0)
    assert list(tmp_path.iterdir()) == [noisy]


def test_damage_far_into_a_file_leaves_nothing_behind(pipeline: Pipeline, tmp_path: Path) -> None:
    samples = np.zeros(10 * RATE)
    samples[-1] = np.nan
    soundfile.write(tmp_path / "noisy.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "new").mkdir()
    with pytest.raises(HissError, match=r"noisy\.wav holds NaN"):
        denoise_file(pipeline, tmp_path / "noisy.wav", tmp_path / "new" / "clean.wav")
    assert list((tmp_path / "new").iterdir()) == []


def test_watch_hears_how_many_seconds_are_done(pipeline: Pipeline, tmp_path: Path) -> None:
    heard: list[float] = []
    denoise_file(pipeline, write_noise(tmp_path / "a.wav", 17.0), tmp_path / "b.wav", watch=heard.append)
    assert heard == [8.0, 16.0, 17.0]


def test_files_cleaned_together_are_those_cleaned_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    kinds = [("a", 0.5, 1), ("b", 9.0, 2), ("c", 0.01, 1)]
    sources = [write_noise(tmp_path / f"{name}.wav", seconds, channels=channels) for name, seconds, channels in kinds]
    jobs = [Job(source, tmp_path / "together" / source.name) for source in sources]
    outcomes = denoise_together(pipeline, [(job, Form.of(job.source)) for job in jobs])
    assert [(one.seconds, one.error) for one in outcomes] == [(seconds, None) for _, seconds, _ in kinds]
    for source, job in zip(sources, jobs, strict=True):
        denoise_file(pipeline, source, tmp_path / "alone.wav")
        alone, together = Audio.load(tmp_path / "alone.wav").samples, Audio.load(job.target).samples
        assert alone.shape == together.shape
        torch.testing.assert_close(together, alone, atol=2**-14, rtol=0)


def test_files_of_many_channels_are_cut_into_the_same_blocks(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [write_noise(tmp_path / f"{count}.wav", channels=count) for count in (1, 5)]
    jobs = [Job(source, tmp_path / "together" / source.name) for source in sources]
    wanted = [clean(pipeline, source) for source in sources]
    monkeypatch.setattr("hiss.denoise_files._LARGEST", 1000)
    denoise_together(pipeline, [(job, Form.of(job.source)) for job in jobs])
    for job, samples in zip(jobs, wanted, strict=True):
        torch.testing.assert_close(Audio.load(job.target).samples, samples, atol=2**-14, rtol=0)


@pytest.mark.parametrize(("rate", "channels"), [(2**31 - 1, 1), (192_000, 256)])
def test_an_absurd_header_takes_no_absurd_memory(
    rate: int, channels: int, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Echo:
        def push(self, samples: torch.Tensor, *, lengths: list[int]) -> torch.Tensor:
            assert lengths == [samples.shape[1]] * channels
            return samples

        def finish(self) -> torch.Tensor:
            return torch.zeros(channels, 0)

    soundfile.write(tmp_path / "a.wav", np.zeros((10, channels)), rate)
    monkeypatch.setattr(pipeline, "stream", lambda *_, **__: Echo())
    tracemalloc.start()
    denoise_file(pipeline, tmp_path / "a.wav", tmp_path / "b.wav")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert soundfile.info(tmp_path / "b.wav").frames == 10
    assert most < 200e6


def test_a_file_that_takes_too_much_memory_harms_no_other(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, *, samples: int) -> Iterator[torch.Tensor]:
        if path.stem == "large":
            raise MemoryError
        yield from read_blocks(path, samples=samples)

    monkeypatch.setattr("hiss.denoise_files.read_blocks", read)
    sources = [write_noise(tmp_path / f"{name}.wav") for name in ("large", "good")]
    jobs = [Job(source, tmp_path / "out" / source.name) for source in sources]
    large, good = denoise_together(pipeline, [(job, Form.of(job.source)) for job in jobs])
    assert "not enough memory for" in str(large.error)
    assert good.error is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]


def test_a_file_that_fails_harms_no_other(pipeline: Pipeline, tmp_path: Path) -> None:
    samples = noise(9.0).samples[0].numpy().copy()
    samples[-1] = np.inf
    soundfile.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    good = write_noise(tmp_path / "good.wav", 10.0)
    jobs = [Job(path, tmp_path / "out" / path.name) for path in (tmp_path / "bad.wav", good)]
    bad, fine = denoise_together(pipeline, [(job, Form.of(job.source)) for job in jobs])
    assert "NaN or infinite" in str(bad.error)
    assert fine.error is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]
    torch.testing.assert_close(Audio.load(fine.job.target).samples, clean(pipeline, good), atol=2**-14, rtol=0)


def test_three_hours_take_no_more_memory_than_a_moment(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 1000, 1, subtype="PCM_16") as file:
        for _ in range(3 * 60):
            file.write(np.zeros(60 * 1000, dtype=np.int16))
    words = [sys.executable, "-c", LONG, str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert soundfile.info(tmp_path / "b.wav").duration == 3 * 3600
    assert int(done.stdout) < 20_000  # all samples are 43 MB
