"""Uploads: what is too large, too long, cut off or no sound at all, and what happens to the process that decodes."""

import io
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import denoisers
import numpy as np
import pytest
import soundfile
from serving import Answer, Client, served, toy_denoiser

from hiss.web.decoder import messages
from hiss.web.limits import Limits
from hiss.web.shelf import Shelf

GOOD = denoisers.noise(0.2).encode()

LIMITS = Limits(body=1 << 18, recording=2.0, decoding=2.0, receiving=1.0)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf([str(toy_denoiser(tmp_path_factory.mktemp("models") / "quiet"))])


@pytest.fixture(scope="module")
def client(shelf: Shelf) -> Iterator[Client]:
    with served(shelf, limits=LIMITS) as client:
        assert client.post("/v1/denoise", GOOD).status == 200  # a decoder runs
        yield client


def silent_flac(seconds: float, *, claimed: bool) -> bytes:
    """Returns a small file of much silence, whose header may hide how much."""
    content = io.BytesIO()
    soundfile.write(content, np.zeros(round(8000 * seconds), np.float32), 8000, format="FLAC")
    data = bytearray(content.getvalue())
    if not claimed:  # the number of samples: the last 36 of the bits 108 to 143 of STREAMINFO
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    return bytes(data)


def of_channels(count: int) -> bytes:
    return denoisers.noise(0.01, channels=count).encode("wav")


def refused(answer: Answer, status: int, says: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json["detail"]


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 422, "empty"),
        (b"not a sound at all" * 100, 422, "cannot be read as audio"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", 422, "cannot be read as audio"),
        (GOOD[:30], 422, "cannot be read as audio"),
        (GOOD[:-1000], 422, "cut off"),
        (denoisers.noise(1.0).encode("flac")[:-3000], 422, "the recording is refused"),
        (GOOD[:44], 422, "no samples"),
        (silent_flac(10, claimed=True), 413, "more than 2 s"),
        (silent_flac(600, claimed=False), 413, "more than 2 s"),
        (bytes(1 << 19), 413, "at most 262144 bytes"),
        (np.full(100, np.nan, np.float32).tobytes(), 422, "cannot be read"),
    ],
)
def test_what_is_no_fitting_recording_is_refused_with_a_problem(
    client: Client, content: bytes, status: int, says: str
) -> None:
    refused(client.post("/v1/denoise", content), status, says)
    assert client.post("/v1/denoise", GOOD).status == 200


def test_nan_is_refused(client: Client) -> None:
    content = io.BytesIO()
    soundfile.write(content, np.full(800, np.nan, np.float32), 8000, format="WAV", subtype="FLOAT")
    refused(client.post("/v1/denoise", content.getvalue()), 422, "NaN")


def test_many_channels_count_as_many_samples(shelf: Shelf) -> None:
    with served(shelf, limits=Limits(samples=1000)) as client:
        refused(client.post("/v1/denoise", of_channels(16)), 413, "more than 1000 samples")
        assert client.post("/v1/denoise", of_channels(2)).status == 200


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\\\secret", "a/../b.wav"])
def test_names_that_are_paths_are_refused(client: Client, name: str) -> None:
    refused(client.post("/v1/denoise", form(name=name), **FORM), 422, "is a path")
    refused(client.post(f"/v1/denoise?model={name.replace('%', '')}", GOOD), 422, "unknown model")


FORM = {"Content_Type": "multipart/form-data; boundary=edge"}


def form(*, field: str = "audio", name: str = "noisy.wav") -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + GOOD + b"\r\n--edge--\r\n"


def test_forms_without_the_one_file_are_refused(client: Client) -> None:
    refused(client.post("/v1/denoise", form(field="other"), **FORM), 422, "lacks a file called audio")
    refused(client.post("/v1/denoise", form().replace(b"--edge--", b"") + form(), **FORM), 400, "Too many files")
    refused(client.post("/v1/denoise", b"--edge\r\nnothing", **FORM), 422, "lacks a file called audio")
    refused(client.post("/v1/denoise", GOOD, Content_Type="multipart/form-data"), 400, "boundary")


def test_an_upload_of_unstated_length_is_counted_as_it_comes(client: Client) -> None:
    host, port = urlsplit(client.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST /v1/denoise HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        connection.sendall(chunk * 4)
        connection.sendall(b"1\r\n0\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_an_upload_that_does_not_come_gives_its_place_back(client: Client) -> None:
    host, port = urlsplit(client.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST /v1/denoise HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nRIFF".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert client.get("/healthz").json["open"] == 0


def decoders(client: Client) -> list[int]:
    """Returns the numbers of the processes that decode."""
    return [process.pid for process in client.server.decoders.alive]


def test_a_decoder_that_is_killed_while_it_decodes_is_replaced_and_the_request_survives(shelf: Shelf) -> None:
    with served(shelf) as client, ThreadPoolExecutor(1) as pool:
        assert client.post("/v1/denoise", GOOD).status == 200
        (number,) = decoders(client)
        os.kill(number, signal.SIGSTOP)
        answer = pool.submit(client.post, "/v1/denoise", GOOD)
        time.sleep(0.3)
        assert not answer.done()
        os.kill(number, signal.SIGKILL)
        assert answer.result().status == 200
        assert decoders(client) != [number]
        assert "hiss_decoder_deaths_total 1" in client.get("/metrics").body.decode()


def test_a_decoder_that_hangs_is_killed(client: Client) -> None:
    assert client.post("/v1/denoise", GOOD).status == 200
    for number in decoders(client):
        os.kill(number, signal.SIGSTOP)
    refused(client.post("/v1/denoise", GOOD), 422, "more than 2 s to decode")
    for number in decoders(client):
        os.kill(number, signal.SIGKILL)
    assert client.post("/v1/denoise", GOOD).status == 200


def test_a_recording_that_crashes_the_decoder_is_refused(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands in for a fault in the decoder: a module that Python finds first, and that ends the process.
    (tmp_path / "soundfile.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with served(shelf) as client:
        refused(client.post("/v1/denoise", GOOD), 422, "crashes the decoder")
        assert client.get("/healthz").status == 200


def test_memory_of_the_decoder_is_bounded(shelf: Shelf) -> None:
    content = denoisers.noise(1.0, rate=16_000, channels=16).encode()
    with served(shelf, limits=Limits(memory=1 << 20)) as client:
        refused(client.post("/v1/denoise", content), 422, "the recording")
        assert client.get("/healthz").status == 200


def test_uploads_leave_nothing_behind(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert client.post("/v1/denoise", form(), **FORM).status == 200
    assert not list(tmp_path.iterdir())


def test_what_a_decoder_says_of_a_recording_is_its_form_its_samples_and_its_end() -> None:
    told = list(messages(GOOD))
    assert [kind for kind, _ in told] == [b"h", b"d", b"."]
    assert len(told[1][1]) == 4 * 1600
    assert [kind for kind, _ in messages(b"nothing")] == [b"e"]
