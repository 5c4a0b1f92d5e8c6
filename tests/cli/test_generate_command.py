"""hiss generate: which files it writes, that options reach the model, and what it refuses."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import drawn, hiss, names, refused, tiny_model, tiny_reader, tone

from hiss.audio import Audio
from hiss.cli.outputs import sound_files
from hiss.conditioners.timing import TimingConfig
from hiss.errors import HissError
from hiss.model import AudioDiffusionModel
from hiss.pipeline import Pipeline, load


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return tone(tmp_path / "tone.wav")


def test_files_in_a_folder_are_named_after_the_prompt_and_counted(model: Path) -> None:
    result = hiss("generate", "7", "--model", model, "--count", 3, "--seed", 0, "-o", "out/")
    assert result.exit_code == 0, result.output
    assert names(Path("out")) == ["7-0.wav", "7-1.wav", "7-2.wav"]
    assert result.stdout.split() == ["out/7-0.wav", "out/7-1.wav", "out/7-2.wav"]
    assert result.stderr == ""
    assert Audio.load("out/7-0.wav").samples.shape == (1, 800)


def test_what_was_made_before_a_failure_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, calls = AudioDiffusionModel.sample, iter(range(9))

    def failing(self: AudioDiffusionModel, *given: Any, **named: Any) -> torch.Tensor:
        if next(calls) == 2:
            raise HissError("the power failed")
        return sample(self, *given, **named)

    monkeypatch.setattr(AudioDiffusionModel, "sample", failing)
    result = hiss("generate", "7", "-m", model, "--count", 3, "--batch-size", 1, "-o", "out/")
    refused(result, 1, says="the power failed")
    assert names(Path("out")) == ["7-0.wav", "7-1.wav"]


def test_times_reach_a_model_that_knows_them(model: Path) -> None:
    config = replace(load(model).model.config, conditioners=(TimingConfig(features=8),))
    Pipeline(drawn(AudioDiffusionModel(config))).save_pretrained("timed")
    for name, words in (("any", ()), ("late", ("--start", 100, "--total", 200)), ("early", ("--start", 0))):
        assert hiss("generate", "-m", "timed", "--seed", 0, *words, "-o", f"{name}.wav").exit_code == 0
    assert len({Path(f"{name}.wav").read_bytes() for name in ("any", "late", "early")}) == 3
    refused(hiss("generate", "-m", model, "--start", 1), 2, says="unknown label 'start'")


def test_another_choice_than_that_of_the_model_can_be_made(model: Path) -> None:
    made = []
    for number, words in enumerate(((), ("--sampling", "schedule.sigma_max=5", "--sampling", "rescale=0.5"))):
        result = hiss("generate", "7", "-m", model, "--seed", 0, "--guidance", 3, *words, "-o", f"{number}.wav")
        assert result.exit_code == 0, result.output
        made.append(Path(f"{number}.wav").read_bytes())
    assert made[0] != made[1]
    refused(hiss("generate", "-m", model, "--sampling", "rescale"), 2, says="KEY=VALUE")
    refused(hiss("generate", "-m", model, "--sampling", "scale=2"), 2, says="scale")


def test_very_many_sounds_have_names_at_once() -> None:
    files = sound_files(Path("out"), stems=["7", "8"] * 50_000, file_format=None)
    assert files[-2:] == [Path("out/7-49999.wav"), Path("out/8-49999.wav")]


def test_without_a_prompt_files_are_named_after_the_model(model: Path) -> None:
    assert hiss("generate", "-m", model).exit_code == 0
    assert names(Path("out")) == ["tiny-0.wav"]


def test_each_line_of_a_file_is_a_prompt_and_gives_what_it_gives_alone(model: Path) -> None:
    Path("prompts.txt").write_text("7\n\n 8 \n7\n")
    words = ("-m", model, "-n", 2, "--seed", 3)
    result = hiss("generate", "--prompts", "prompts.txt", *words, "-o", "out", "--json")
    assert result.exit_code == 0, result.output
    assert names(Path("out")) == ["7-0.wav", "7-1.wav", "7-2.wav", "7-3.wav", "8-0.wav", "8-1.wav"]
    assert [row["prompt"] for row in json.loads(result.stdout)] == ["7", "7", "8", "8", "7", "7"]
    assert hiss("generate", "8", *words, "-o", "alone").exit_code == 0
    for name in ("8-0.wav", "8-1.wav"):
        assert (Path("out") / name).read_bytes() == (Path("alone") / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [(b"\n \n", 2, "holds no prompt"), (b"\xff\xfe\x00", 1, "cannot be read as text"), (None, 1, "cannot be read")],
)
def test_a_file_without_prompts_is_refused(model: Path, content: bytes | None, status: int, says: str) -> None:
    if content is not None:
        Path("prompts.txt").write_bytes(content)
    refused(hiss("generate", "--prompts", "prompts.txt", "-m", model), status, says=says)
    assert not Path("out").exists()


def test_one_sound_goes_to_the_file_that_is_named(model: Path) -> None:
    assert hiss("generate", "7", "-m", model, "-o", "new/seven.flac").exit_code == 0
    assert names(Path("new")) == ["seven.flac"]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3"])
def test_every_format_can_be_written(model: Path, ending: str) -> None:
    assert hiss("generate", "-m", model, "--format", ending, "-o", "x").exit_code == 0
    assert names(Path("x")) == [f"tiny-0.{ending}"]
    assert Audio.load(f"x/tiny-0.{ending}").sample_rate == 8000 if ending != "opus" else True


def test_a_name_is_printed_as_it_is_also_if_a_part_of_it_is_called_like_an_emoji(model: Path) -> None:
    words = ("generate", "-m", model, "-o", "a:on:b.wav")
    assert hiss(*words).stdout == "a:on:b.wav\n"
    assert json.loads(hiss(*words, "--json").stdout)[0]["file"] == "a:on:b.wav"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_name_that_is_no_unicode_is_printed_as_its_bytes(model: Path) -> None:
    result = hiss("generate", "-m", model, "-o", os.fsdecode(b"\xff.wav"))
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == b"\xff.wav\n"


def test_the_same_seed_gives_the_same_files_and_batch_size_changes_nothing(model: Path) -> None:
    words = ("generate", "8", "-m", model, "-n", 3, "--seed", 5, "--format", "wav")
    assert hiss(*words, "-o", "one").exit_code == 0
    assert hiss(*words, "-o", "two", "--batch-size", 2).exit_code == 0
    for name in names(Path("one")):
        one, two = Audio.load(Path("one") / name), Audio.load(Path("two") / name)
        torch.testing.assert_close(one.samples, two.samples, atol=1e-3, rtol=0)


def test_a_seed_that_was_drawn_is_told_and_repeats_the_sound(model: Path) -> None:
    result = hiss("generate", "7", "-m", model, "-o", "a.wav")
    word, seed = result.stderr.split()
    assert word == "seed"
    assert hiss("generate", "7", "-m", model, "--seed", seed, "-o", "b.wav").exit_code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_quiet_leaves_only_the_files_wherever_it_is_written(model: Path) -> None:
    assert hiss("generate", "7", "-m", model, "-o", "a.wav", "-q").stderr == ""
    assert hiss("-q", "generate", "7", "-m", model, "-o", "a.wav").stderr == ""


def test_json_tells_what_was_made(model: Path) -> None:
    result = hiss("generate", "7", "-m", model, "--seed", 1, "--length", 0.25, "--sample-rate", 16000, "--json")
    expected = {"file": "out/7-0.wav", "prompt": "7", "seed": 1, "seconds": 0.25, "sample_rate": 16000, "channels": 1}
    assert json.loads(result.stdout) == [expected]


def test_levels_are_set_or_left(model: Path) -> None:
    assert hiss("generate", "-m", model, "--seed", 1, "-o", "peak.wav").exit_code == 0
    assert Audio.load("peak.wav").peak == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    words = ("--temperature", 0.1, "--normalize", "none", "-o", "none.wav")
    assert hiss("generate", "-m", model, "--seed", 1, *words).exit_code == 0
    assert 0.01 < Audio.load("none.wav").peak < 0.8


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (("7", "--guidance", 3), ("7",)),
        (("7", "--steps", 5), ("7",)),
        (("7", "--sampler", "heun"), ("7",)),
        (("7", "--temperature", 0.5), ("7",)),
        (("8",), ("7",)),
        (("7", "--guidance", 3, "--negative", "8"), ("7", "--guidance", 3)),
    ],
    ids=["guidance", "steps", "sampler", "temperature", "prompt", "negative"],
)
def test_what_is_asked_reaches_the_model(model: Path, words: tuple[object, ...], without: tuple[object, ...]) -> None:
    made = []
    for number, asked in enumerate((words, without)):
        result = hiss("generate", *asked, "-m", model, "--seed", 0, "-o", f"{number}.wav")
        assert result.exit_code == 0, result.output
        made.append(Audio.load(f"{number}.wav").samples)
    assert float((made[0] - made[1]).abs().max()) > 5e-4  # a step of 16 bits is 3e-5


def test_plot_draws_a_picture_beside_the_sounds(model: Path) -> None:
    assert hiss("generate", "7", "-m", model, "-n", 2, "--plot").exit_code == 0
    assert names(Path("out")) == ["7-0.wav", "7-1.wav", "7.png"]
    assert hiss("generate", "7", "-m", model, "-o", "one/x.wav", "--plot").exit_code == 0
    assert names(Path("one")) == ["x.png", "x.wav"]


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (("--init", "tone.wav", "--strength", 0.5), 0.5),
        (("--continue", "tone.wav", "--length", 0.7), 0.7),
        (("--inpaint", "tone.wav", "--span", "0.1:0.2"), 0.5),
        (("--inpaint", "tone.wav", "--span", "0.1:0.2", "--span", "0.3:0.4"), 0.5),
        (("--loop",), 0.1),
    ],
    ids=["init", "continue", "inpaint", "inpaint twice", "loop"],
)
def test_recordings_can_be_edited(model: Path, recording: Path, words: tuple[object, ...], seconds: float) -> None:
    result = hiss("generate", "-m", model, *words, "--normalize", "none", "-o", "edited.wav")
    assert result.exit_code == 0, result.output
    edited, before = Audio.load("edited.wav"), Audio.load(recording)
    assert edited.seconds == pytest.approx(seconds)
    if words[0] in ("--continue", "--inpaint"):
        torch.testing.assert_close(edited.samples[:, :700], before.samples[:, :700], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (("--continue", "tone.wav"), True),
        (("--inpaint", "tone.wav", "--span", "0.1:0.2"), True),
        (("--inpaint", "tone.wav", "--span", "0.1:0.2", "--normalize", "peak"), False),
        (("--init", "tone.wav"), False),
    ],
    ids=["continue", "inpaint", "inpaint, to a peak", "init"],
)
def test_what_is_kept_of_a_recording_stays_as_loud_unless_a_level_is_asked_for(
    model: Path, recording: Path, words: tuple[object, ...], kept: bool
) -> None:
    before = 0.2 * Audio.load(recording).samples
    Audio(before, 8000).save("tone.wav")
    result = hiss("generate", "-m", model, *words, "--temperature", 0.1, "--seed", 0, "-o", "edited.wav")
    assert result.exit_code == 0, result.output
    edited = Audio.load("edited.wav")
    assert (edited.peak == pytest.approx(10 ** (-1 / 20), abs=1e-3)) != kept
    assert torch.allclose(edited.samples[:, :700], before[:, :700], atol=1e-3) == kept


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--length", -1), "length must be above 0"),
        (("--length", 0), "length must be above 0"),
        (("--length", "nan"), "length must be above 0"),
        (("--length", "inf"), "length must be above 0"),
        (("--length", 1e9), "at most 86400 seconds"),
        (("--length", "long"), "'--length'"),
        (("--count", 0), "--count must be at least 1, not 0"),
        (("--count", -3), "--count must be at least 1, not -3"),
        (("--count", 200_000), "count must be from 1 to 100000, not 200000"),
        (("--count", 101, "--plot"), "--plot draws up to 100 sounds, not 101"),
        (("--steps", 0), "steps must be from 1 to 10000, not 0"),
        (("--steps", 10**9), "steps must be from 1 to 10000"),
        (("--steps", 2.5), "'--steps'"),
        (("--temperature", -1), "temperature must be from 0 to 10"),
        (("--temperature", "nan"), "temperature must be from 0 to 10"),
        (("--temperature", 11), "temperature must be from 0 to 10"),
        (("--guidance", "inf"), "guidance must be a number"),
        (("--sampler", "dppm"), "unknown sampler 'dppm'"),
        (("--sample-rate", 0), "sample_rate must be"),
        (("--sample-rate", -8000), "sample_rate must be"),
        (("--sample-rate", 10000, "--format", "mp3"), "mp3 cannot hold 10000 Hz"),
        (("--normalize", "max"), "unknown value of --normalize 'max'; valid are: lufs, none, peak, rms"),
        (("--format", "aac"), "unknown audio format 'aac'; valid are: flac"),
        (("--format", "mp3", "-o", "x.wav"), "--format mp3 contradicts the ending of x.wav"),
        (("-o", "x.txt"), "unknown audio format 'txt'"),
        (("-o", "x.wav", "--count", 2), "x.wav is one file for 2 sounds"),
        (("--negative", "9"), "unknown label '9'"),
        (("--negative", "8"), "give guidance above 1"),
        (("--batch-size", 0), "--batch-size"),
        (("--threads", 0), "--threads"),
        (("--strength", 0, "--init", "tone.wav"), "strength must be above 0"),
        (("--strength", 2, "--init", "tone.wav"), "strength must be above 0"),
        (("--strength", 0.3, "--inpaint", "tone.wav", "--span", "0.1:0.2"), "strength belongs to init"),
        (("--strength", 0.3, "--continue", "tone.wav"), "strength belongs to init"),
        (("--strength", 0.3), "strength belongs to init"),
        (("--init", "tone.wav", "--continue", "tone.wav"), "only one recording"),
        (("--inpaint", "tone.wav"), "inpaint and span belong together"),
        (("--span", "0.1:0.2"), "inpaint and span belong together"),
        (("--inpaint", "tone.wav", "--span", "0.2:0.1"), "--span must be two times in seconds"),
        (("--inpaint", "tone.wav", "--span", "0.2"), "--span must be two times in seconds"),
        (("--inpaint", "tone.wav", "--span", "a:b"), "--span must be two times in seconds"),
        (("--inpaint", "tone.wav", "--span", "0:nan"), "--span must be two times in seconds"),
        (("--inpaint", "tone.wav", "--span", "0.1:9"), "span must lie within the 0.50 s"),
        (("--continue", "tone.wav", "--length", 0.2), "ask for more than that"),
        (("--prompts", "tone.wav"), "give one prompt, or a file of them"),
        (("--no-such-option",), "--no-such-option"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_refused_in_one_sentence_and_leaves_no_file(
    model: Path, recording: Path, words: tuple[object, ...], says: str
) -> None:
    refused(hiss("generate", "7", "--model", model, *words), 2, says=says)
    assert names(Path()) == ["tone.wav"]


def test_a_model_must_be_named_and_known() -> None:
    refused(hiss("generate", "7"), 2, says="no model was named; add --model NAME")
    refused(hiss("generate", "7", "--model", "digitz"), 2, says="unknown model 'digitz'")
    refused(hiss("generate", "7", "--model", ""), 2, says="no model was named")
    assert names(Path()) == []


def test_an_unknown_prompt_is_refused_with_the_valid_ones(model: Path) -> None:
    refused(hiss("generate", "9", "-m", model), 2, says="unknown label '9'; valid are: 7, 8")


@pytest.mark.parametrize("option", ["--init", "--continue"])
def test_a_recording_that_cannot_be_read_is_a_failure(model: Path, option: str) -> None:
    Path("noise.wav").write_bytes(b"no sound at all")
    refused(hiss("generate", "-m", model, option, "noise.wav"), 1, says="cannot read noise.wav as audio")
    refused(hiss("generate", "-m", model, option, "none.wav"), 1, says="cannot read none.wav")
    assert names(Path()) == ["noise.wav"]


def test_a_damaged_model_is_a_failure() -> None:
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{")
    refused(hiss("generate", "-m", "broken"), 1, says="config.json is damaged")


def test_a_place_that_cannot_be_written_is_found_before_the_work(model: Path) -> None:
    Path("taken").write_text("a file")
    refused(hiss("generate", "7", "-m", model, "-o", "taken/sub"), 1, says="cannot write in taken")
    refused(hiss("generate", "7", "-m", model, "-o", "/proc/hiss/x.wav"), 1, says="cannot write in /proc")
    assert Path("taken").read_text() == "a file"


def test_a_model_that_reads_takes_a_sentence_and_tells_which_words_are_new(tmp_path: Path) -> None:
    model = tiny_reader(tmp_path, "a low flute note", "a high flute note")
    words = ("-m", model, "--seed", 0, "-o", tmp_path / "out")
    known = hiss("generate", "A low flute note!", *words)
    assert known.exit_code == 0, known.output
    assert "warning" not in known.stderr
    assert names(tmp_path / "out") == ["a-low-flute-note-0.wav"]
    for prompt, says in (("a low flut", "never read 'flut' (it knows 'flute')"), ("🎸", "never read '🎸'"), ("", None)):
        result = hiss("generate", prompt, *words)
        assert result.exit_code == 0, result.output
        assert says is None or says in result.stderr
