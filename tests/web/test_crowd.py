"""Many requests at once: none lost, none mixed up, none too many, and none that harms another."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import denoisers
import pytest
import torch
from serving import NOTES, Answer, served, toy_shelf

from hiss.audio import Audio, Form
from hiss.web.asks import Denoise, Generate
from hiss.web.decoding import Upload
from hiss.web.jobs import Job, Queue
from hiss.web.limits import Limits
from hiss.web.metrics import Metrics
from hiss.web.problems import Refused
from hiss.web.shelf import Shelf
from hiss.web.works import Denoising, Generation, Progress, Work


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return toy_shelf(tmp_path_factory.mktemp("models"))


class Gate:
    """Holds all generation back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        make = Generation.make

        def held(work: Generation, works: Sequence[Generation], watch: Progress) -> list[list[Audio]]:
            while not self.open.wait(0.01):
                watch(0, 1)
            return make(work, works, watch)

        monkeypatch.setattr(Generation, "make", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def until(happened: Any, seconds: float = 20.0) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_of_two_hundred_requests_at_once_none_is_lost_and_none_is_mixed_up(shelf: Shelf) -> None:
    toy, quiet = (shelf.models[name].pipeline for name in ("toy", "quiet"))
    asks = [(NOTES[seed % 2], seed) for seed in range(100)]
    recordings = [Audio(denoisers.noise(0.1).samples * (seed + 1) / 100, 8000) for seed in range(100)]
    with served(shelf, limits=Limits(queue=200)) as client, ThreadPoolExecutor(200) as pool:
        made = [pool.submit(client.post, "/v1/generate", {"prompt": note, "seed": seed}) for note, seed in asks]
        cleaned = [pool.submit(client.post, "/v1/denoise", one.encode("wav", subtype="FLOAT")) for one in recordings]
        answers = [one.result() for one in (*made, *cleaned)]
        assert [one.status for one in answers] == [200] * 200
        counts = client.get("/metrics").body.decode()
    assert 'hiss_jobs_total{task="denoise",state="done"} 100' in counts
    assert 'hiss_batches_total{task="denoise"} 100' not in counts
    for (note, seed), answer in zip(asks, answers[:100], strict=True):
        assert answer.body == toy.generate(note, seed=seed).normalize().encode()
    for recording, answer in zip(recordings, answers[100:], strict=True):
        clean = Audio.load(io.BytesIO(answer.body))
        assert torch.allclose(clean.samples, quiet.denoise(recording).samples, atol=1e-6)


def test_a_full_queue_answers_429_and_says_when_to_try_again(shelf: Shelf, gate: Gate) -> None:
    with served(shelf, limits=Limits(queue=2)) as client, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(client.post, "/v1/generate", {"seed": seed}) for seed in (1, 2)]
        until(lambda: client.get("/healthz").json["open"] == 2)
        full = client.post("/v1/generate", {})
        assert full.status == 429
        assert full.headers["content-type"] == "application/problem+json"
        assert 1 <= int(full.headers["retry-after"]) <= 600
        assert "2 requests" in full.json["detail"]
        assert client.post("/v1/denoise", denoisers.noise(0.1).encode()).status == 429
        gate.open.set()
        assert [one.result().status for one in first] == [200, 200]
        assert client.post("/v1/generate", {}).status == 200


def test_long_recordings_that_wait_are_bounded_too(shelf: Shelf, gate: Gate) -> None:
    with served(shelf, limits=Limits(waiting=1500)) as client, ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(client.post, "/v1/generate", {})
        until(lambda: client.get("/healthz").json["open"] == 1)
        content = denoisers.noise(0.1).encode()  # 800 samples
        assert client.post("/v1/denoise", content, Prefer="respond-async").status == 202
        assert client.post("/v1/denoise", content, Prefer="respond-async").status == 429
        gate.open.set()
        assert blocking.result().status == 200


def test_a_cancelled_job_stops_and_frees_its_place(shelf: Shelf, gate: Gate) -> None:
    with served(shelf, limits=Limits(queue=1)) as client:
        job = client.post("/v1/generate", {}, Prefer="respond-async")
        until(lambda: client.get(job.headers["location"]).json["state"] == "running")
        assert client.ask("DELETE", job.headers["location"]).status == 204
        gate.open.set()
        assert client.post("/v1/generate", {}).status == 200


def test_who_hangs_up_does_not_keep_the_server_busy(shelf: Shelf, gate: Gate) -> None:
    with served(shelf) as client:
        connection = HTTPConnection(urlsplit(client.url).netloc)
        connection.request("POST", "/v1/generate", b"{}", {"Content-Type": "application/json"})
        until(lambda: client.get("/healthz").json["open"] == 1)
        connection.close()
        until(lambda: client.get("/healthz").json["open"] == 0)
        assert 'hiss_jobs_total{task="generate",state="cancelled"} 1' in client.get("/metrics").body.decode()


@pytest.mark.parametrize("grace", [20.0, 0.2])
def test_a_server_that_stops_finishes_what_runs_or_reports_it(
    shelf: Shelf, gate: Gate, grace: float, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as pool, served(shelf, limits=Limits(grace=grace)) as client:
        answer = pool.submit(client.post, "/v1/generate", {})
        until(lambda: client.get("/healthz").json["open"] == 1)
        client.listener.should_exit = True
        until(lambda: client.server.queue.closing)
        late = client.post("/v1/generate", {}) if grace > 1 else Answer(503, {"retry-after": "10"}, b"")
        assert late.status == 503
        assert late.headers["retry-after"] == "10"
        if grace > 1:
            gate.open.set()
            assert answer.result().status == 200
        else:
            assert answer.result().status == 503
            assert "the server stopped" in answer.result().json["detail"]
    assert ("stopped before it was done" in caplog.text) == (grace < 1)


def test_works_that_are_done_together_come_out_as_if_each_were_alone(shelf: Shelf) -> None:
    told = [{"prompt": note, "seed": seed, "count": 2} for seed, note in enumerate(("low", "high", None))]
    asks = [Generate.model_validate(one) for one in told]
    works = [Generation.of(shelf, ask) for ask in asks]
    together = works[0].make(works, lambda *_: None)
    for work, sounds in zip(works, together, strict=True):
        (alone,) = work.make([work], lambda *_: None)
        assert all(torch.equal(one.samples, other.samples) for one, other in zip(sounds, alone, strict=True))


def denoising(shelf: Shelf, seconds: float, channels: int = 1) -> Denoising:
    noisy = denoisers.noise(seconds, channels=channels)
    return Denoising.of(
        shelf, Denoise.model_validate({}), Upload(noisy, Form(8000, channels, noisy.samples.shape[1], "PCM_16"))
    )


@pytest.mark.parametrize("ahead", [False, True])
def test_recordings_of_other_lengths_and_channels_are_cleaned_together(
    shelf: Shelf, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(shelf.models["quiet"], pipeline=denoisers.tiny_denoiser(ahead=ahead))
    monkeypatch.setitem(shelf.models, "quiet", model)
    works = [denoising(shelf, 0.3), denoising(shelf, 0.5, channels=2), denoising(shelf, 0.4)]
    assert len({work.key for work in works}) == 1
    assert denoising(shelf, 2.0).key != works[0].key
    for work, (clean,) in zip(works, works[0].make(works, lambda *_: None), strict=True):
        expected = shelf.models["quiet"].pipeline.denoise(work.upload.audio)
        assert torch.allclose(clean.samples, expected.samples, atol=1e-6)
        assert clean.samples.shape == expected.samples.shape


def test_a_work_that_fails_does_not_harm_those_it_was_done_with(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = Denoising.make

    def failing(work: Denoising, works: Sequence[Denoising], watch: Progress) -> list[list[Audio]]:
        if any(one.upload.audio.channels == 2 for one in works):
            raise RuntimeError("out of memory")
        return make(work, works, watch)

    monkeypatch.setattr(Denoising, "make", failing)

    async def run() -> list[Job]:
        queue, jobs = Queue(Limits(), Metrics()), []
        for work in (denoising(shelf, 0.3), denoising(shelf, 0.3, channels=2), denoising(shelf, 0.4)):
            with queue.receiving("denoise") as job:
                queue.put(job, work, keep=True)
            jobs.append(job)
        worker = asyncio.create_task(queue.run())
        for job in jobs:
            await job.end()
        worker.cancel()
        return jobs

    jobs = asyncio.run(run())
    assert [job.state for job in jobs] == ["done", "failed", "done"]
    assert jobs[1].refusal is not None
    assert jobs[1].refusal.status_code == 500
    assert "out of memory" not in jobs[1].refusal.detail
    assert "out of memory" in caplog.text


def test_what_jobs_made_is_forgotten_the_oldest_first(shelf: Shelf) -> None:
    async def run() -> list[str]:
        queue = Queue(Limits(kept_samples=1700), Metrics())  # a sound is 800 samples
        worker, jobs = asyncio.create_task(queue.run()), []
        for seed in range(3):
            work: Work = Generation.of(shelf, Generate.model_validate({"seed": seed}))
            with queue.receiving("generate") as job:
                queue.put(job, work, keep=True)
            await job.end()
            jobs.append(job)
        worker.cancel()
        kept: list[str] = []
        for job in jobs:
            try:
                kept.append(queue.find(job.id).state)
            except Refused as error:
                kept.append(str(error.status_code))
        return kept

    assert asyncio.run(run()) == ["404", "done", "done"]
