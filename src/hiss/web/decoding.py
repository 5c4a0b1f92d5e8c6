"""Uploads become sound in processes of their own, which may crash, hang or be killed without harm."""

import asyncio
import json
import os
import struct
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass

import numpy as np

from hiss.audio import Audio, Form
from hiss.web.limits import Limits
from hiss.web.problems import Refused

_PROCESSES = 2
_START = 60.0  # seconds; Python has to start, which is no fault of a recording


@dataclass(frozen=True)
class Upload:
    """A recording that came in."""

    audio: Audio
    form: Form


class Decoders:
    """A few processes that decode; those that die are replaced."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: asyncio.LifoQueue[Process | None] = asyncio.LifoQueue()
        for _ in range(_PROCESSES):
            self._idle.put_nowait(None)
        self.alive: set[Process] = set()
        self.deaths = 0
        """How many of them died, or had to be killed."""

    async def decode(self, content: bytes) -> Upload:
        """Returns the recording in the content of a file.

        A process that dies may have been killed by somebody else, so a second one gets a try.

        Raises:
            Refused: it is no audio, damaged, too long, or takes too long to decode.
        """
        if not content:
            raise Refused(422, "the recording is empty; send the content of an audio file")
        process = await self._idle.get()
        try:
            for _ in range(2):
                try:
                    if process is None or process.returncode is not None:
                        await self._ended(process)
                        process = await self._started()
                    async with asyncio.timeout(self._limits.decoding):
                        return await self._decoded(process, content)
                except (asyncio.IncompleteReadError, ConnectionError):
                    await self._ended(process)
            raise Refused(422, "the recording cannot be read as audio: it crashes the decoder")
        except TimeoutError:
            await self._ended(process)
            most = self._limits.decoding
            raise Refused(422, f"the recording takes more than {most:g} s to decode; send it as WAV") from None
        except BaseException as error:
            # Whatever else ends this early leaves samples in the pipe.
            if not isinstance(error, Refused) or error.status_code == 413:
                await self._ended(process)
            raise
        finally:
            self._idle.put_nowait(process)

    async def close(self) -> None:
        """Ends the processes."""
        for process in list(self.alive):
            await self._ended(process)

    async def _started(self) -> Process:
        command = [sys.executable, "-m", "hiss.web.decoder", str(self._limits.memory)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
        self.alive.add(process)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START):
                await process.stdout.readexactly(1)
        except BaseException:
            await self._ended(process)
            raise
        return process

    async def _ended(self, process: Process | None) -> None:
        """Ends a process, if it has not ended by itself."""
        if process in self.alive:
            self.deaths += 1
            self.alive.discard(process)
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _decoded(self, process: Process, content: bytes) -> Upload:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(len(content).to_bytes(8, "little") + content)
        await process.stdin.drain()
        form, parts, count = Form(1, 1, 0, ""), [], 0
        while True:
            kind, size = struct.unpack("<cI", await process.stdout.readexactly(5))
            message = await process.stdout.readexactly(size)
            match kind:
                case b"h":
                    told = json.loads(message)
                    form = Form(told["rate"], told["channels"], told["frames"], told["subtype"])
                case b"d":
                    parts.append(message)
                    count += size // 4
                case b"e":
                    raise Refused(422, f"the recording is refused: {message.decode()}; export it again as WAV or FLAC")
                case _:
                    samples = np.frombuffer(b"".join(parts), np.float32).reshape(-1, form.channels)
                    if not np.isfinite(samples).all():
                        raise Refused(422, "the recording holds NaN or infinite samples; export it from its source")
                    return Upload(Audio(samples.T, form.sample_rate), form)
            # What a header claims may be wrong in both directions, so what comes is counted as well.
            self._check(max(count, 0 if kind == b"d" else form.samples * form.channels), form)

    def _check(self, samples: int, form: Form) -> None:
        limits, seconds = self._limits, samples / form.channels / form.sample_rate
        if seconds > limits.recording:
            raise Refused(413, f"the recording lasts more than {limits.recording:g} s; send it in parts")
        if samples > limits.samples:
            raise Refused(413, f"the recording holds more than {limits.samples} samples; send it in parts")
