"""Jobs and their queue: a stated number of requests at most, those for the same in one batch, one batch at a time."""

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Literal

from pydantic import BaseModel, Field

from hiss.audio import Audio, Form
from hiss.errors import HissError
from hiss.web.limits import Limits
from hiss.web.metrics import Metrics
from hiss.web.problems import Problem, Refused
from hiss.web.transcript import Transcript
from hiss.web.works import Work

State = Literal["receiving", "waiting", "running", "done", "failed", "cancelled"]

ENDED: tuple[State, ...] = ("done", "failed", "cancelled")

_log = logging.getLogger("hiss.web")


class Sound(BaseModel):
    """What one sound of a job is."""

    seconds: float
    sample_rate: int
    channels: int


class Report(BaseModel):
    """How far a job is, and what came of it."""

    id: str = Field(examples=["2rYyhjhLJoEUdXbA"])
    task: str = Field(examples=["generate"])
    model: str = Field(examples=["digits"])
    state: State
    done: int = Field(description="Steps or pieces of the batch that this job is worked on in.")
    total: int = Field(description="How many of these there are; 0 before it runs.")
    seed: int | None
    sounds: list[Sound] = Field(description="Each is at /v1/jobs/{id}/sounds/{number}, counted from 0.")
    problem: Problem | None
    command: str = Field(description="The same on the command line.")
    python: str = Field(description="The same in Python.")


class Job:
    """A request on its way; everything about it happens on the event loop."""

    def __init__(self, task: str) -> None:
        self.id = secrets.token_urlsafe(12)
        self.task = task
        self.state: State = "receiving"
        self.work: Work | None = None
        """What is to be done; forgotten when it ends, and with it what was uploaded."""
        self.model, self.transcript = "", Transcript()
        self.form: Form | None = None
        """That of the recording, where its sample format is kept."""
        self.done, self.total = 0, 0
        self.sounds: list[Audio] = []
        self.refusal: Refused | None = None
        self.ended = 0.0
        self.changed = asyncio.Event()
        """Set at the next change; then another one takes its place."""

    @property
    def over(self) -> bool:
        return self.state in ENDED

    @property
    def size(self) -> int:
        """Samples of its sounds."""
        return sum(sound.samples.numel() for sound in self.sounds)

    @property
    def report(self) -> Report:
        refusal = self.refusal
        return Report(
            id=self.id,
            task=self.task,
            model=self.model,
            state=self.state,
            done=self.done,
            total=self.total,
            seed=self.transcript.seed,
            sounds=[
                Sound(seconds=one.seconds, sample_rate=one.sample_rate, channels=one.channels) for one in self.sounds
            ],
            problem=None if refusal is None else refusal.problem,
            command=self.transcript.command,
            python=self.transcript.python,
        )

    def change(self, state: State, *, done: int = 0, total: int = 0) -> None:
        """Notes how far it is and tells those who wait for it; what has ended stays as it is."""
        if not self.over:
            self.state, self.done, self.total = state, done, total
            if self.over:
                self.work, self.ended = None, time.monotonic()
            self.changed.set()
            self.changed = asyncio.Event()

    def refuse(self, refusal: Refused) -> None:
        """Ends it with a word why."""
        if not self.over:
            self.refusal = refusal
            self.change("failed")

    async def end(self) -> None:
        """Waits until it has ended."""
        while not self.over:
            await self.changed.wait()


class _StoppedError(Exception):
    """Nobody wants the batch any more."""


class Queue:
    """All jobs of a server."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._open: list[Job] = []
        self._kept: dict[str, Job] = {}
        self._wake = asyncio.Event()
        self._pace = 1.0  # seconds of work per job, lately
        self.closing = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def receiving(self, task: str) -> Iterator[Job]:
        """Yields a job that has a place in the queue, to be put there once all that it needs has come in.

        Raises:
            Refused: the queue is full, or the server is about to stop.
        """
        self._check(len(self._open) < self._limits.queue, f"the queue is full: {self._limits.queue} requests")
        job = Job(task)
        self._open.append(job)
        try:
            yield job
        finally:
            if job.state == "receiving":
                self._end(job, "failed")

    def put(self, job: Job, work: Work, *, keep: bool) -> None:
        """Puts a job in the queue, and if asked for keeps it for a while when it is done.

        Raises:
            Refused: the recordings that wait already fill the memory that there is for them.
        """
        held = work.held + sum(one.work.held for one in self._open if one.work is not None)
        self._check(held <= self._limits.waiting, "too many long recordings wait")
        job.work, job.model, job.transcript, job.form = work, work.model.name, work.transcript, work.form
        if keep:
            self._kept[job.id] = job
        job.change("waiting")
        self._wake.set()

    def find(self, number: str) -> Job:
        """Returns a job that is kept.

        Raises:
            Refused: there is none of that id, or it has been dropped.
        """
        self._drop()
        if number not in self._kept:
            raise Refused(404, f"there is no job {number[:40]!r}; jobs are kept for {self._limits.kept:g} s")
        return self._kept[number]

    def cancel(self, job: Job) -> None:
        """Ends a job that nobody waits for, and forgets what it made."""
        self._kept.pop(job.id, None)
        self._end(job, "cancelled")

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            waiting = [job for job in self._open if job.state == "waiting"]
            if not waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            keys = [job.work.key for job in waiting if job.work is not None]
            batch = [job for job, key in zip(waiting, keys, strict=True) if key == keys[0]]
            await self._make(batch[: self._limits.together])

    async def close(self) -> None:
        """Takes no more jobs, gives those that are there some time to finish, and reports the rest."""
        self.closing = True
        try:
            async with asyncio.timeout(self._limits.grace):
                for job in list(self._open):
                    await job.end()
        except TimeoutError:
            for job in list(self._open):
                _log.warning("stopped before it was done: job %s, %s, %s", job.id, job.task, job.state)
                job.refuse(Refused(503, "the server stopped before this was done"))
                self._end(job, "failed")

    async def _make(self, batch: list[Job]) -> None:
        """Does the work of jobs together, or if that fails each alone, so that one does not harm the others."""
        works = [job.work for job in batch if job.work is not None]
        loop, began, task = asyncio.get_running_loop(), time.monotonic(), batch[0].task
        self._progress(batch, 0, 0)

        def watch(done: int, total: int) -> None:
            if all(job.over for job in batch):
                raise _StoppedError
            loop.call_soon_threadsafe(self._progress, batch, done, total)

        try:
            made = await asyncio.to_thread(works[0].make, works, watch)
        except _StoppedError:
            return
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    if not job.over:
                        await self._make([job])
                return
            if isinstance(error, HissError):
                batch[0].refuse(Refused(422, str(error)))
            else:
                _log.error("job %s failed", batch[0].id, exc_info=error)
                batch[0].refuse(Refused(500, "this is a fault in hiss; the log of the server says more"))
            self._end(batch[0], "failed")
            return
        took = time.monotonic() - began
        self._pace += 0.3 * (took / len(batch) - self._pace)
        self._metrics.add("hiss_batches_total", task=task)
        self._metrics.add("hiss_batched_jobs_total", len(batch), task=task)
        self._metrics.add("hiss_work_seconds_total", took, task=task)
        for job, sounds in zip(batch, made, strict=True):
            if not job.over:
                job.sounds = sounds
                self._metrics.add("hiss_sound_seconds_total", sum(one.seconds for one in sounds), task=task)
            self._end(job, "done")
        self._drop()

    def _progress(self, batch: list[Job], done: int, total: int) -> None:
        for job in batch:
            job.change("running", done=done, total=total)

    def _end(self, job: Job, state: State) -> None:
        job.change(state, done=job.total, total=job.total)
        if job in self._open:
            self._open.remove(job)
            self._metrics.add("hiss_jobs_total", task=job.task, state=job.state)

    def _drop(self) -> None:
        """Forgets jobs that ended long ago, and the oldest where their sounds take too much memory."""
        now, size = time.monotonic(), sum(job.size for job in self._kept.values())
        for job in sorted((job for job in self._kept.values() if job.over), key=lambda job: job.ended):
            if now - job.ended > self._limits.kept or size > self._limits.kept_samples:
                size -= job.size
                del self._kept[job.id]

    def _check(self, room: bool, reason: str) -> None:
        if self.closing:
            raise Refused(503, "the server is stopping", retry_after=10)
        if not room:
            later = min(600, max(1, ceil(self._pace * len(self._open))))
            raise Refused(429, f"{reason}; try again in {later} s", retry_after=later)
