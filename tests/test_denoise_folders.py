"""Denoising folders: which file goes where, who does it, and that however it is done the result is the same."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from denoisers import tiny_denoiser, write_noise

from hiss.audio import Audio, Form
from hiss.denoise_files import Job, Outcome, denoise_together
from hiss.denoise_folders import Way, denoise_files, fitting_model, plan, share, worthwhile
from hiss.errors import HissError, UsageError
from hiss.pipeline import Pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "denoiser"
    tiny_denoiser().save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def planned(*inputs: str, output: str, file_format: str | None = None) -> dict[str, str]:
    jobs = plan([Path(one) for one in inputs], Path(output), file_format=file_format)
    return {job.source.as_posix(): job.target.as_posix() for job in jobs}


@pytest.mark.parametrize(
    ("output", "file_format", "target"),
    [
        ("clean.wav", None, "clean.wav"),
        ("out", None, "out/a.FLAC"),
        ("out.d", None, "out.d/a.FLAC"),
        ("out", "mp3", "out/a.mp3"),
        ("b.ogg", "ogg", "b.ogg"),
    ],
)
def test_one_file_goes_to_a_file_or_into_a_folder(output: str, file_format: str | None, target: str) -> None:
    Path("out.d").mkdir()
    assert planned("x/a.FLAC", output=output, file_format=file_format) == {"x/a.FLAC": target}


def test_a_folder_keeps_its_structure_and_other_formats_become_wav() -> None:
    touch("in/a.wav", "in/deep/b.mp3", "in/deep/c.aiff", "in/.hidden/d.wav", "in/.e.wav", "in/notes.txt")
    assert planned("in", output="out") == {
        "in/a.wav": "out/a.wav",
        "in/deep/b.mp3": "out/deep/b.mp3",
        "in/deep/c.aiff": "out/deep/c.wav",
    }


def test_several_inputs_keep_the_names_of_their_folders() -> None:
    touch("x/in/a.wav", "y/a.wav", "b.wav")
    assert planned("x/in", "y", "b.wav", output="out") == {
        "b.wav": "out/b.wav",
        "x/in/a.wav": "out/in/a.wav",
        "y/a.wav": "out/y/a.wav",
    }


def test_what_an_earlier_run_wrote_is_not_denoised_again() -> None:
    touch("a.wav", "out/a.wav")
    assert planned(".", output="out") == {"a.wav": "out/a.wav"}
    assert planned("out", output="out") == {"out/a.wav": "out/a.wav"}


def test_what_an_earlier_run_wrote_beside_its_sources_is_not_denoised_again() -> None:
    touch("in/a.wav", "in/a.flac", "in/b.aiff")
    wanted = {"in/a.wav": "in/a.flac", "in/b.aiff": "in/b.flac"}
    assert planned("in", output="in", file_format="flac") == wanted
    touch("in/b.flac")
    assert planned("in", output="in", file_format="flac") == wanted
    assert planned("in", output="in")["in/b.aiff"] == "in/b.wav"
    touch("in/b.wav")
    assert "in/b.wav" not in planned("in", output="in")


@pytest.mark.parametrize(
    ("inputs", "output", "said"),
    [
        (["in"], "clean.wav", "clean.wav is one file, but there may be several recordings; name a folder"),
        (["a.wav", "b.wav"], "c.wav", "c.wav is one file"),
        (["a.wav"], "c.xyz", "unknown audio format 'xyz'"),
        (["in/a.wav", "other/a.wav"], "out", "in/a.wav and other/a.wav would both become out/a.wav"),
        (["in/a.wav", "b/in"], "b/in", "in/a.wav would replace b/in/a.wav, which is to be denoised too"),
    ],
)
def test_what_cannot_be_meant_is_refused(inputs: list[str], output: str, said: str) -> None:
    touch("in/a.wav", "other/a.wav", "b/in/a.wav", "a.wav", "b.wav")
    with pytest.raises(UsageError, match=said):
        planned(*inputs, output=output)


def test_formats_must_be_known_and_agree() -> None:
    with pytest.raises(UsageError, match=r"unknown audio format 'wave' .did you mean 'wav'"):
        planned("a.wav", output="out", file_format="wave")
    with pytest.raises(UsageError, match=r"the format mp3 contradicts the ending of b\.wav"):
        planned("a.wav", output="b.wav", file_format="mp3")


def test_a_folder_without_recordings_says_so() -> None:
    Path("in").mkdir()
    with pytest.raises(HissError, match="the folder in holds no audio file; looked for wav, flac"):
        planned("in", output="out")


def test_recordings_in_formats_that_are_not_read_fail_and_are_in_no_ones_way(model: str) -> None:
    write_noise(Path("in/a.wav"))
    write_noise(Path("in/b.wav"))
    touch("in/a.m4a", "in/b.webm/c.txt")  # the first was converted, the second is a folder
    for name in ("in/talk.m4a", "in/talk.mp4"):
        Path(name).write_bytes(b"\0\0\0\x20ftypM4A " * 99)
    outcomes = denoise_files(plan([Path("in")], Path("out")), Way(model))
    assert {one.job.source.name: str(one.error) for one in outcomes if one.error is not None} == {
        f"talk.{ending}": f"cannot read in/talk.{ending} as audio: {ending} is not read here; convert it with ffmpeg"
        for ending in ("m4a", "mp4")
    }
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.wav", "b.wav"]


def test_shares_are_fixed_by_the_list_and_are_all_of_it() -> None:
    jobs = [Job(Path(f"{number}.wav"), Path(f"out/{number}.wav")) for number in range(7)]
    shares = [share(jobs, rank=rank, world=3) for rank in range(3)]
    assert [len(one) for one in shares] == [3, 2, 2]
    assert sorted((job for one in shares for job in one), key=lambda job: job.source) == jobs
    with pytest.raises(UsageError, match="not 3 of 3"):
        share(jobs, rank=3, world=3)


@pytest.mark.parametrize(
    ("rate", "names", "name"),
    [
        (8000, ["denoise-16k", "denoise-48k", "digits"], "denoise-16k"),
        (24_000, ["denoise-16k", "denoise-48k"], "denoise-16k"),
        (32_000, ["denoise-16k", "denoise-48k"], "denoise-48k"),
        (48_000, ["denoise-16k"], "denoise-16k"),
        (16_000, ["denoise-48k"], "denoise-48k"),
    ],
)
def test_the_bundled_model_that_fits_the_rate_is_taken(rate: int, names: list[str], name: str) -> None:
    assert fitting_model(rate, names) == name


def test_without_a_bundled_denoiser_one_is_asked_for() -> None:
    with pytest.raises(UsageError, match="no denoiser comes with this version of hiss; name the folder"):
        fitting_model(16_000, ["digits"])


def test_processes_are_started_only_for_long_work() -> None:
    jobs = [Job(Path(f"{number}.wav"), Path("out")) for number in range(3)]
    assert worthwhile(jobs, cores=8) == 1
    for job in jobs:
        with job.source.open("wb") as file:
            file.truncate(20 << 20)
    assert worthwhile(jobs, cores=8) == 3
    assert worthwhile(jobs, cores=2) == 2


def folder() -> list[Job]:
    """Returns jobs for recordings of several rates and lengths, one of which is no recording."""
    for number, (seconds, rate, channels) in enumerate(
        [(0.5, 8000, 1), (0.6, 8000, 2), (9.0, 8000, 1), (0.2, 16_000, 1), (0.55, 8000, 1)]
    ):
        write_noise(Path(f"in/{number}.wav"), seconds, rate=rate, channels=channels)
    Path("in/bad.wav").write_text("this is no sound\n")
    return plan([Path("in")], Path("out"))


@pytest.mark.parametrize("way_to_work", [{"together": 4}, {"workers": 2}])
def test_batches_and_processes_change_nothing(way_to_work: dict[str, int], model: str) -> None:
    jobs = folder()
    heard: list[tuple[int, float]] = []
    outcomes = denoise_files(jobs, Way(model), watch=lambda *done: heard.append(done), **way_to_work)
    files, seconds = heard[-1]
    assert files == 6
    assert seconds == pytest.approx(0.5 + 0.6 + 9.0 + 0.2 + 0.55)
    assert [one.job.source.name for one in outcomes if one.error is not None] == ["bad.wav"]
    made = {job.target.name: Audio.load(job.target) for job in jobs if job.target.exists()}
    assert len(made) == 5
    denoise_files(jobs, Way(model))
    for name, audio in made.items():
        alone = Audio.load(Path("out") / name)
        assert alone.sample_rate == audio.sample_rate
        torch.testing.assert_close(audio.samples, alone.samples, atol=2**-14, rtol=0)


@pytest.mark.parametrize("steps", [1, 2])
def test_batches_of_a_model_that_looks_ahead_change_nothing(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(pipeline: Pipeline, files: list[tuple[Job, Form]], **options: Any) -> list[Outcome]:
        sizes.append(len(files))
        return denoise_together(pipeline, files, **options)

    monkeypatch.setattr("hiss.denoise_folders.denoise_together", counted)
    tiny_denoiser(ahead=True).save_pretrained("ahead")
    jobs = folder()
    denoise_files(jobs, Way("ahead", steps=steps), together=4)
    assert sorted(sizes) == [1, 1, 3]  # of one rate, and at least half as long as the longest
    made = {job.target: Audio.load(job.target) for job in jobs if job.target.exists()}
    denoise_files(jobs, Way("ahead", steps=steps))
    for target, audio in made.items():
        torch.testing.assert_close(audio.samples, Audio.load(target).samples, atol=2**-14, rtol=0)
    denoise_files(jobs, Way("ahead", steps=steps, causal=True))
    assert not any(torch.allclose(audio.samples, Audio.load(target).samples) for target, audio in made.items())


def test_an_interrupted_run_leaves_no_process_and_no_half_file(model: str) -> None:
    jobs = folder()

    def interrupt(files: int, seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_files(jobs, Way(model), workers=2, watch=interrupt)
    assert multiprocessing.active_children() == []
    assert all(path.suffix == ".wav" and path.stem.isdigit() for path in Path("out").iterdir())


def test_a_wrong_model_stops_everything(model: str) -> None:
    jobs = folder()
    with pytest.raises(UsageError, match="unknown model 'nothing'"):
        denoise_files(jobs, Way("nothing"))
    with pytest.raises(UsageError, match="cannot denoise"):
        denoise_files(jobs, Way("digits"))
    with pytest.raises(UsageError, match="at least 1 step"):
        denoise_files(jobs, Way(model, steps=0))
    assert not Path("out").exists()
