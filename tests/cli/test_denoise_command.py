"""hiss denoise: files, folders and streams become what they should, and bad input is one sentence."""

import json
import os
import signal
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_line import HISS, hiss, names, refused, tiny_model
from denoisers import RATE, noise, tiny_denoiser, write_noise
from typer.testing import CliRunner, Result

from hiss.audio import Audio
from hiss.audio.pcm import Pcm
from hiss.cli import app
from hiss.denoise_files import Job
from hiss.pipeline import Pipeline, bundled

LIMITED = [
    sys.executable,
    "-c",
    "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); from hiss.cli import main; main()",
]
"""The program where no file can grow beyond 5000 bytes: a disk that takes no more, in the middle of writing."""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_denoiser()


@pytest.fixture(scope="module")
def model(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "denoiser"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def piped(model: Path, *words: object, content: bytes) -> Result:
    """Runs hiss denoise --stream."""
    with warnings.catch_warnings():
        line = ["denoise", "--stream", "-m", str(model), *map(str, words)]
        return CliRunner().invoke(app, line, input=content, catch_exceptions=False)


# --- files ---


def test_one_file_becomes_the_file_that_is_named(model: Path, pipeline: Pipeline) -> None:
    noisy = write_noise(Path("noisy.wav"), 0.5, rate=44_100, channels=2)
    result = hiss("denoise", noisy, "-m", model, "-o", "new/clean.wav")
    assert result.exit_code == 0, result.output
    assert result.stdout == "new/clean.wav\n"
    assert result.stderr == ""
    made = Audio.load("new/clean.wav")
    assert made.sample_rate == 44_100
    torch.testing.assert_close(made.samples, pipeline.denoise(Audio.load(noisy)).samples, atol=2**-14, rtol=0)


def test_options_reach_the_model(model: Path) -> None:
    noisy = write_noise(Path("noisy.wav"))
    assert hiss("denoise", noisy, "-m", model, "--steps", 2, "--keep-db", 0, "-o", "clean.wav").exit_code == 0
    assert torch.equal(Audio.load("clean.wav").samples, Audio.load(noisy).samples)


def test_the_format_can_be_chosen(model: Path) -> None:
    write_noise(Path("in/a.wav"))
    assert hiss("denoise", "in", "-m", model, "--format", "flac").exit_code == 0
    assert soundfile.info("out/a.flac").format == "FLAC"


def test_an_ending_may_have_capitals(model: Path) -> None:
    noise().save("REC001.WAV", subtype="PCM_24")
    result = hiss("denoise", "REC001.WAV", "-m", model)
    assert result.exit_code == 0, result.output
    assert soundfile.info("out/REC001.WAV").subtype == "PCM_24"


def test_a_line_repeated_goes_on_where_it_stopped(model: Path) -> None:
    for name in ("a", "deep/b", "deep/c"):
        write_noise(Path(f"in/{name}.wav"))
    first = hiss("denoise", "in", "-m", model, "-o", "out")
    assert first.stdout.split() == ["out/a.wav", "out/deep/b.wav", "out/deep/c.wav"]
    Path("out/deep/b.wav").unlink()
    Path("out/a.wav").write_text("kept")
    second = hiss("denoise", "in", "-m", model, "-o", "out", "--json")
    assert second.exit_code == 0
    assert second.stderr == "2 of 3 are there already; --overwrite makes them anew\n"
    report = json.loads(second.stdout)
    assert [one["file"] for one in report["done"]] == ["out/deep/b.wav"]
    assert [one["file"] for one in report["skipped"]] == ["out/a.wav", "out/deep/c.wav"]
    assert Path("out/a.wav").read_text() == "kept"
    assert hiss("denoise", "in", "-m", model, "-o", "out", "--overwrite").stdout.split() == first.stdout.split()
    assert Audio.load("out/a.wav").seconds == 0.5


def test_no_recording_is_compared_with_every_other(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        write_noise(Path(f"in/{name}.wav"), 0.1)
    write_noise(Path("out/d.wav"), 0.1)
    compared: list[object] = []

    def equal(one: Job, other: object) -> bool:
        compared.append(other)
        return one is other

    monkeypatch.setattr(Job, "__eq__", equal)
    report = json.loads(hiss("denoise", "in", "-m", model, "--json").stdout)
    assert [one["file"] for one in report["skipped"]] == ["out/d.wav"]
    assert compared == []


def test_machines_share_the_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_noise(Path(f"in/{name}.wav"), 0.1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shares.append(hiss("denoise", "in", "-m", model).stdout.split())
    assert shares == [["out/a.wav", "out/c.wav"], ["out/b.wav"]]
    monkeypatch.setenv("RANK", "two")
    refused(hiss("denoise", "in", "-m", model), 2, says="variable RANK must be a whole number from 0 on, not 'two'")


@pytest.mark.slow
def test_a_process_that_fails_waits_for_those_that_work_or_have_nothing_to_do(model: Path) -> None:
    write_noise(Path("in/b.wav"), 600.0)
    text(Path("in/a.wav"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "--no-python"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [*launcher, *HISS, "denoise", "in", "-m", str(model), "-j", "1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 1
    assert "this process failed and waits for the others: cannot read in/a.wav as audio" in done.stderr
    assert done.stdout == "out/b.wav\n"
    assert names(Path("out")) == ["b.wav"]


def test_a_process_that_lost_the_others_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> None:
        raise RuntimeError("Connection closed by peer")

    write_noise(Path("in/a.wav"), 0.1)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", lose)
    result = hiss("denoise", "in", "-m", model)
    assert result.exit_code == 1
    assert result.stdout == "out/a.wav\n"
    assert result.stderr == (
        "error: another of the 2 processes was lost; what is finished is kept: repeat the line to do the rest\n"
    )


def test_a_recording_is_replaced_only_if_asked(model: Path) -> None:
    noisy = write_noise(Path("a.wav"))
    before = noisy.read_bytes()
    refused(hiss("denoise", noisy, "-m", model, "-o", "a.wav"), 2, says="a.wav would replace the recording itself")
    refused(hiss("denoise", ".", "-m", model, "-o", "."), 2, says="or add --overwrite")
    assert noisy.read_bytes() == before
    assert hiss("denoise", noisy, "-m", model, "-o", "a.wav", "--overwrite").exit_code == 0
    assert noisy.read_bytes() != before
    assert names(Path()) == ["a.wav"]


def test_the_bundled_model_is_used_or_its_lack_is_said() -> None:
    noisy = write_noise(Path("noisy.wav"), 0.1, rate=16_000)
    result = hiss("denoise", noisy, "-o", "clean.wav")
    if "denoise-16k" in bundled():
        assert result.exit_code == 0
    else:
        refused(result, 2, says="no denoiser comes with this version of hiss")


# --- bad input: a right result ---


def constant(path: Path) -> None:
    Audio(torch.full((1, 4000), 0.5), RATE).save(path)


def clipped(path: Path) -> None:
    Audio((40 * noise().samples).clamp(-1, 1), RATE).save(path)


def silence(path: Path) -> None:
    Audio(torch.zeros(1, 4000), RATE).save(path)


def faint(path: Path) -> None:
    Audio(1e-6 * noise().samples, RATE).save(path, subtype="FLOAT")


def telephone(path: Path) -> None:
    noise().save(path, subtype="ULAW")


def fast(path: Path) -> None:
    noise(0.1, rate=96_000).save(path)


def surround(path: Path) -> None:
    noise(0.2, rate=48_000, channels=6).save(path, subtype="PCM_24")


def short(path: Path) -> None:
    noise(0.01).save(path)


def single(path: Path) -> None:
    Audio(torch.tensor([0.25]), RATE).save(path)


def mp3_named_wav(path: Path) -> None:
    noise(0.5, rate=16_000).save(path, format="mp3")


def cut_off(path: Path) -> None:
    noise().save(path)
    path.write_bytes(path.read_bytes()[:3044])


KINDS = [constant, clipped, silence, faint, telephone, fast, surround, short, single, mp3_named_wav, cut_off]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_recordings_keep_rate_channels_length_and_sample_format(kind: Callable[[Path], None], model: Path) -> None:
    kind(Path("a.wav"))
    result = hiss("denoise", "a.wav", "-m", model, "-o", "b.wav")
    assert result.exit_code == 0, result.output
    before, after = Audio.load("a.wav"), Audio.load("b.wav")
    assert (after.sample_rate, after.samples.shape) == (before.sample_rate, before.samples.shape)
    subtype = soundfile.info("a.wav").subtype
    assert soundfile.info("b.wav").subtype == ("PCM_16" if subtype == "MPEG_LAYER_III" else subtype)
    if kind is silence:
        assert after.peak == 0


# --- bad input: one sentence ---


def text(path: Path) -> None:
    path.write_text("this is no sound\n" * 100)


def empty(path: Path) -> None:
    path.touch()


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def not_a_number(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan]), RATE, subtype="FLOAT")


def nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


BAD = [
    (text, "as audio"),
    (empty, "as audio"),
    (no_samples, "holds no samples"),
    (not_a_number, "NaN"),
    (nothing, "No such file"),
]


@pytest.mark.parametrize(("kind", "said"), BAD)
def test_what_cannot_be_denoised_is_one_sentence(kind: Callable[[Path], None], said: str, model: Path) -> None:
    kind(Path("a.wav"))
    refused(hiss("denoise", "a.wav", "-m", model, "-o", "b.wav"), 1, says=said)
    assert not Path("b.wav").exists()


def test_among_good_files_bad_ones_are_listed_and_the_rest_is_done(model: Path) -> None:
    write_noise(Path("in/good.wav"))
    for kind, _ in BAD[:-1]:
        kind(Path(f"in/{kind.__name__}.wav"))
    result = hiss("denoise", "in", "gone.wav", "-m", model, "-o", "out")
    assert result.exit_code == 1
    assert result.stdout == "out/in/good.wav\n"
    *listed, last = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in listed] == [
        ["failed", one]
        for one in ("gone.wav", "in/empty.wav", "in/no_samples.wav", "in/not_a_number.wav", "in/text.wav")
    ]
    assert last == "error: 5 of 6 recordings failed, as listed above; all others are done"
    assert names(Path("out")) == ["in"]
    assert names(Path("out/in")) == ["good.wav"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to denoise; name files or folders"),
        (("a.wav", "--steps", 0), "at least 1 step"),
        (("a.wav", "--keep-db", -1), "keep_db must be 0 dB or more"),
        (("a.wav", "--format", "wave"), "did you mean 'wav'"),
        (("a.wav", "-o", "b.xyz"), "unknown audio format 'xyz'"),
        (("a.wav", "b.wav", "-o", "c.wav"), "name a folder"),
        (("a.wav", "--jobs", 0), "--jobs"),
        (("a.wav", "--jobs", 2, "--device", "cuda"), "--jobs is for the CPU"),
        (("a.wav", "--device", "abacus"), "the device 'abacus' cannot be used"),
        (("a.wav", "--rate", 8000), "--rate is for raw streams"),
        (("a.wav", "--channels", 1), "--channels is for raw streams"),
        (("a.wav", "--encoding", "s16"), "--encoding is for raw streams"),
        (("a.wav", "--stream"), "--stream reads from stdin, not from a.wav"),
        (("--stream", "-o", "out"), "--output is for files"),
        (("--stream", "--format", "wav"), "--format is for files"),
        (("--stream", "--json"), "--json is for files"),
        (("--stream", "-j", 1), "--jobs is for files"),
        (("--stream", "--overwrite"), "--overwrite is for files"),
        (("--stream", "--channels", 1), "--channels is for raw streams; a WAV stream says it"),
        (("--stream", "--encoding", "s16"), "--encoding is for raw streams; a WAV stream says it"),
        (("a.wav", "-o", "b.opus"), "opus cannot hold 44100 Hz"),
    ],
)
def test_wrong_use_is_said(words: tuple[object, ...], says: str, model: Path) -> None:
    write_noise(Path("a.wav"), 0.1, rate=44_100)
    refused(hiss("denoise", *words, "-m", model), 2, says=says)
    assert names(Path()) == ["a.wav"] or names(Path("out")) == []


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    write_noise(Path("a.wav"))
    tiny_model(tmp_path / "tiny")
    for name in (tmp_path / "tiny", "digits"):
        refused(hiss("denoise", "a.wav", "-m", name), 2, says="this model generates and cannot denoise")
    refused(hiss("denoise", "a.wav", "-m", "denoise"), 2, says="unknown model 'denoise'")


def test_a_full_disk_leaves_nothing_behind(model: Path) -> None:
    write_noise(Path("a.wav"), 1.0)
    line = [*LIMITED, "denoise", "a.wav", "-m", str(model), "-o", "new/b.wav"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write new/b.wav: File too large; choose a place with room to write\n"
    assert names(Path("new")) == []


# --- streams ---


def test_a_stream_is_the_file_denoised_without_hearing_what_is_to_come() -> None:
    tiny_denoiser(ahead=True).save_pretrained("ahead")
    write_noise(Path("noisy.wav"))
    for target, words in (("whole.wav", ()), ("causal.wav", ("--causal",))):
        assert hiss("denoise", "noisy.wav", "-m", "ahead", *words, "-o", target).exit_code == 0
    result = piped(Path("ahead"), content=Path("noisy.wav").read_bytes())
    Path("stream.wav").write_bytes(result.stdout_bytes)
    streamed, causal, whole = (Audio.load(Path(f"{name}.wav")).samples for name in ("stream", "causal", "whole"))
    torch.testing.assert_close(streamed, causal, atol=2**-15, rtol=0)
    assert not torch.allclose(streamed, whole, atol=1e-3)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(8000, 1, "PCM_16"), (16_000, 2, "PCM_24"), (8000, 1, "FLOAT")]
)
def test_a_wav_stream_is_the_file_denoised(model: Path, rate: int, channels: int, subtype: str) -> None:
    noise(1.0, rate=rate, channels=channels).save("a.wav", subtype=subtype)
    assert hiss("denoise", "a.wav", "-m", model, "-o", "file.wav").exit_code == 0
    result = piped(model, content=Path("a.wav").read_bytes())
    assert result.exit_code == 0, result.stderr
    Path("stream.wav").write_bytes(result.stdout_bytes)
    assert soundfile.info("stream.wav").subtype == subtype
    file, stream = Audio.load("file.wav"), Audio.load("stream.wav")
    assert stream.sample_rate == rate
    torch.testing.assert_close(stream.samples, file.samples, atol=2**-15 if subtype == "PCM_16" else 1e-5, rtol=0)
    assert result.stderr.startswith("latency ")
    assert result.stderr.count("\n") == 1


def test_a_wav_stream_of_unknown_length_goes_on_to_its_end(model: Path, pipeline: Pipeline) -> None:
    pcm = Pcm(RATE, 1, "f32")
    noisy = noise(1.0)
    result = piped(model, content=pcm.header() + pcm.encode(noisy.samples))
    assert result.stdout_bytes[: len(pcm.header())] == pcm.header()
    made = pcm.decode(result.stdout_bytes[len(pcm.header()) :])
    torch.testing.assert_close(made, pipeline.denoise(noisy).samples, atol=1e-5, rtol=0)


def test_what_follows_the_samples_of_a_wav_file_is_no_sound(model: Path) -> None:
    noise(0.1).save("a.wav")
    content = Path("a.wav").read_bytes()
    result = piped(model, content=content + b"LIST" + struct.pack("<I", 8000) + bytes(8000))
    assert len(result.stdout_bytes) == len(content)


@pytest.mark.parametrize("encoding", ["s16", "f32"])
def test_raw_samples_are_denoised_as_described(model: Path, pipeline: Pipeline, encoding: str) -> None:
    pcm = Pcm(16_000, 2, encoding)
    content = pcm.encode(noise(0.5, rate=16_000, channels=2).samples)
    result = piped(model, "--rate", 16_000, "--channels", 2, "--encoding", encoding, "-q", content=content)
    assert result.exit_code == 0
    assert result.stderr == ""
    wanted = pipeline.denoise(Audio(pcm.decode(content), 16_000)).samples
    torch.testing.assert_close(pcm.decode(result.stdout_bytes), wanted, atol=2**-14, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 7, 12, 13])
def test_a_raw_stream_may_be_as_short_as_a_sample(model: Path, size: int) -> None:
    result = piped(model, "--rate", RATE, content=bytes(size))
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == bytes(size - size % 2)


def test_a_stream_says_what_it_left_out(model: Path) -> None:
    loud = Pcm(RATE, 1, "s16").encode((40 * noise().samples).clamp(-1, 1))
    result = piped(model, "--rate", RATE, content=loud + b"x")
    assert len(result.stdout_bytes) == len(loud)
    assert "warning: the stream ended within a sample; its last 1 bytes are left out" in result.stderr


@pytest.mark.parametrize(
    ("words", "content", "status", "says"),
    [
        ((), b"", 1, "nothing came in on stdin"),
        ((), bytes(1000), 2, "stdin is no WAV file; for raw samples add --rate HZ"),
        (("--rate", 8000, "--encoding", "mp3"), bytes(1000), 2, "unknown encoding 'mp3'"),
        (("--rate", 8000, "--channels", 0), bytes(1000), 2, "1 to 256 channels"),
        (("--rate", 8000), Pcm(16_000).header(), 2, "the WAV stream has 16000 Hz and 1 channels, not 8000 Hz"),
        ((), Pcm(16_000).header()[:30], 1, "ends within its header"),
        (("--rate", 8000, "--steps", 0), bytes(1000), 2, "at least 1 step"),
    ],
)
def test_streams_that_cannot_be_denoised_are_one_sentence(
    words: tuple[object, ...], content: bytes, status: int, says: str, model: Path
) -> None:
    refused(piped(model, *words, content=content), status, says=says)


def test_nan_in_a_stream_ends_it(model: Path) -> None:
    result = piped(model, "--rate", RATE, "--encoding", "f32", content=np.full(100, np.nan, np.float32).tobytes())
    assert result.exit_code == 1
    assert result.stdout_bytes == b""
    assert "NaN or infinite" in result.stderr


@pytest.fixture
def live(model: Path) -> "subprocess.Popen[bytes]":
    line = [*HISS, "denoise", "--stream", "-m", str(model), "--rate", str(RATE)]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def push(live: "subprocess.Popen[bytes]") -> bytes:
    """Returns what comes out when half a second went in and nothing more has come."""
    assert live.stdin is not None
    assert live.stdout is not None
    live.stdin.write(Pcm(RATE).encode(noise(0.5).samples))
    return live.stdout.read(100)


def test_sound_comes_out_before_the_end_and_an_interruption_is_quiet(live: "subprocess.Popen[bytes]") -> None:
    assert len(push(live)) == 100
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate()
    assert live.returncode == 130
    assert errors.decode().startswith("latency ")
    assert errors.count(b"\n") == 1


def test_when_nobody_listens_any_more_a_stream_ends_quietly(live: "subprocess.Popen[bytes]") -> None:
    push(live)
    assert live.stdin is not None
    assert live.stdout is not None
    assert live.stderr is not None
    live.stdout.close()
    live.stdin.write(bytes(100_000))
    live.stdin.close()
    errors = live.stderr.read()
    live.stderr.close()
    assert live.wait() == 141
    assert errors.count(b"\n") == 1


def test_a_terminal_is_no_stream(model: Path) -> None:
    primary, secondary = os.openpty()
    line = [*HISS, "denoise", "--stream", "-m", str(model)]
    done = subprocess.run(line, stdin=secondary, capture_output=True, text=True, check=False)
    os.close(primary)
    os.close(secondary)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --stream reads sound from stdin and writes it to stdout")


def test_a_model_that_denoises_is_not_asked_to_generate(model: Path) -> None:
    refused(hiss("generate", "--model", model, "-o", "x.wav"), 2, says="denoises and cannot generate; take denoise")
    reference = write_noise(Path("real/0.wav")).parent
    words = ("evaluate", "generation", "--model", model, "--reference", reference, "--embedding", "logmel")
    refused(hiss(*words), 2, says="denoises and cannot generate; take denoise")
    assert names(Path()) == ["real"]
