"""The HTTP interface: what can be asked for, where, and how it is answered."""

import asyncio
import io
import re
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from markdown_it import MarkdownIt
from starlette.datastructures import UploadFile

from hiss.audio import Audio, Form
from hiss.audio.files import FLOATING
from hiss.web.asks import MEDIA, Denoise, Edit, Format, Generate
from hiss.web.decoding import Decoders, Upload
from hiss.web.guard import Guard
from hiss.web.jobs import Job, Queue, Report
from hiss.web.limits import Limits
from hiss.web.metrics import Metrics
from hiss.web.problems import Problem, Refused, handle, responses
from hiss.web.shelf import Shelf
from hiss.web.works import Denoising, Editing, Generation, Work

_PAGE = Path(__file__).parent / "page"
_STYLE = re.compile(r' style="text-align:\w+"')  # what Markdown says of the columns of tables; no style is inline here
_ALIVE = 15.0  # seconds after which a silent stream of events says that it is still there
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_SOUND: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The sound; several of them as a ZIP of files 0, 1, ...",
        "content": {name.partition(";")[0]: _BINARY for name in (*MEDIA.values(), "application/zip")},
        "headers": {"Hiss-Seed": {"description": "What makes the same again.", "schema": {"type": "integer"}}},
    },
    202: {
        "description": "Taken as a job, for Prefer: respond-async.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Report"}}},
        "headers": {"Location": {"description": "Of the job.", "schema": {"type": "string"}}},
    },
    **responses(400, 401, 403, 413, 422, 429, 503),
}
_KNOWN = responses(401, 403, 404, 422)
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Report"},
        }
    },
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Reports; the schema is that of one event.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    },
    **_KNOWN,
}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "A recording: WAV, FLAC, OGG, MP3 or AIFF, whatever it is called.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["audio"], "properties": {"audio": _BINARY["schema"]}}
            },
            "application/octet-stream": _BINARY,
        },
    }
}

Prefer = Annotated[str, Header(description="respond-async answers at once with a job.", examples=["respond-async"])]


class Server:
    """What the routes share: models, decoders, the queue and the numbers."""

    def __init__(self, shelf: Shelf, limits: Limits) -> None:
        self.shelf, self.limits, self.metrics = shelf, limits, Metrics()
        self.decoders = Decoders(limits)
        self.queue = Queue(limits, self.metrics)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Works while the application runs."""
        worker = asyncio.create_task(self.queue.run())
        yield
        await self.queue.close()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await self.decoders.close()

    async def upload(self, request: Request) -> Upload:
        """Returns the recording in the body of a request: the field audio of a form, or all of it.

        Raises:
            Refused: it is none, it comes too slowly, or its name is a path.
        """
        try:
            async with asyncio.timeout(self.limits.receiving):
                content = await _content(request)
        except TimeoutError:
            raise Refused(408, f"the recording took more than {self.limits.receiving:g} s to arrive") from None
        return await self.decoders.decode(content)

    async def answer(self, request: Request, job: Job, work: Work, file_format: Format, prefer: str) -> Response:
        """Returns the answer to a request: its sounds when they are made, or at once the job that makes them."""
        wanted = "respond-async" in {part.strip().lower() for part in prefer.split(",")}
        self.queue.put(job, work, keep=wanted)
        if wanted:
            headers = {"Location": f"/v1/jobs/{job.id}", "Preference-Applied": "respond-async"}
            return Response(job.report.model_dump_json(), 202, headers, "application/json")
        ended, gone = asyncio.create_task(job.end()), asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            gone.cancel()
            if not job.over:
                self.queue.cancel(job)
        if job.refusal is not None:
            raise job.refusal
        return await _sound_response(job, job.sounds, file_format)


def create_app(
    shelf: Shelf, *, limits: Limits | None = None, token: str | None = None, host: str = "127.0.0.1"
) -> FastAPI:
    """Returns the application for the models of a shelf.

    Args:
        shelf: what is offered.
        limits: how much of it.
        token: what requests have to bring along, if anything.
        host: where it will listen; on this machine only, it answers to no other name.
    """
    server = Server(shelf, limits or Limits())
    app = FastAPI(
        title="hiss",
        version=version("hiss"),
        description="Sounds from noise, and recordings without it. Errors are problem details (RFC 9457).",
        lifespan=server.running,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.server = server
    app.add_middleware(Guard, limits=server.limits, metrics=server.metrics, token=token, host=host)
    handle(app)
    _add_page(app)
    _add_facts(app, server)
    _add_work(app, server)
    _add_jobs(app, server)
    _describe(app, secured=token is not None)
    return app


def _add_page(app: FastAPI) -> None:
    def add(route: str, name: str) -> None:
        @app.get(route, include_in_schema=False)
        async def part() -> FileResponse:
            return FileResponse(_PAGE / name, headers={"Cache-Control": "no-cache"})

    add("/", "index.html")
    for name in ("page.js", "sound.js", "page.css", "icon.svg"):
        add(f"/{name}", name)


def _add_facts(app: FastAPI, server: Server) -> None:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    @app.get("/healthz", tags=["server"], responses=responses(403))
    async def health() -> dict[str, str | int]:
        """Whether the server works, and how many requests it has."""
        state = "stopping" if server.queue.closing else "ok"
        return {"status": state, "open": len(server.queue), "limit": server.limits.queue}

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=responses(401, 403))
    async def metrics() -> str:
        """Numbers for Prometheus."""
        return server.metrics.text(
            hiss_open_jobs=len(server.queue),
            hiss_queue_limit=server.limits.queue,
            hiss_decoder_deaths_total=server.decoders.deaths,
        )

    @app.get("/v1/models", tags=["models"], responses=responses(401, 403))
    async def models() -> list[dict[str, Any]]:
        """What there is, and what it can be asked for."""
        return [model.facts for model in server.shelf.models.values()]

    @app.get("/v1/models/{name}/card", tags=["models"], response_class=HTMLResponse, responses=_KNOWN)
    async def card(name: str) -> str:
        """The model card: where the model comes from, what was measured, and its limits."""
        if name not in server.shelf.models:
            raise Refused(404, f"there is no model {name[:40]!r}; /v1/models lists them")
        rendered: str = markdown.render(server.shelf.models[name].pipeline.card)
        return _STYLE.sub("", rendered)


def _add_work(app: FastAPI, server: Server) -> None:
    @app.post("/v1/generate", tags=["work"], response_class=Response, responses=_SOUND)
    async def generate(request: Request, ask: Generate, prefer: Prefer = "") -> Response:
        """Sounds from noise. The same seed gives the same bytes, whoever else asks (OGG files number themselves)."""
        with server.queue.receiving("generate") as job:
            return await server.answer(request, job, Generation.of(server.shelf, ask), ask.format, prefer)

    @app.post("/v1/denoise", tags=["work"], response_class=Response, responses=_SOUND, openapi_extra=_UPLOAD)
    async def denoise(request: Request, ask: Annotated[Denoise, Query()], prefer: Prefer = "") -> Response:
        """A recording without its noise: as long, as loud, of the same rate and channels."""
        with server.queue.receiving("denoise") as job:
            work = Denoising.of(server.shelf, ask, await server.upload(request))
            return await server.answer(request, job, work, ask.format, prefer)

    @app.post("/v1/edit", tags=["work"], response_class=Response, responses=_SOUND, openapi_extra=_UPLOAD)
    async def edit(request: Request, ask: Annotated[Edit, Query()], prefer: Prefer = "") -> Response:
        """Sounds from a recording: a variation, its continuation, or a span of it made anew."""
        with server.queue.receiving("edit") as job:
            work = Editing.of(server.shelf, ask, await server.upload(request))
            return await server.answer(request, job, work, ask.format, prefer)


def _add_jobs(app: FastAPI, server: Server) -> None:
    @app.get("/v1/jobs/{number}", tags=["jobs"], responses=_KNOWN)
    async def report(number: str) -> Report:
        """How far a job is."""
        return server.queue.find(number).report

    @app.delete("/v1/jobs/{number}", tags=["jobs"], status_code=204, responses=_KNOWN)
    async def cancel(number: str) -> None:
        """Stops a job, and forgets what it made."""
        server.queue.cancel(server.queue.find(number))

    @app.get("/v1/jobs/{number}/events", tags=["jobs"], response_class=StreamingResponse, responses=_EVENTS)
    async def events(number: str) -> StreamingResponse:
        """How far a job is, as server-sent events: a report at each change, the last when it has ended."""
        return StreamingResponse(_reports(server.queue.find(number)), media_type="text/event-stream")

    @app.get(
        "/v1/jobs/{number}/sounds/{index}",
        tags=["jobs"],
        response_class=Response,
        responses={200: _SOUND[200], **_KNOWN},
    )
    async def sound(number: str, index: int, format: Format = "wav") -> Response:
        """A sound of a job that is done, counted from 0."""
        job = server.queue.find(number)
        if not 0 <= index < len(job.sounds):
            raise Refused(404, f"job {number} is {job.state} and has {len(job.sounds)} sounds, counted from 0")
        return await _sound_response(job, [job.sounds[index]], format)


async def _reports(job: Job) -> AsyncIterator[str]:
    while True:
        change, over, report = job.changed, job.over, job.report  # it may go on while this one is sent
        yield f"data: {report.model_dump_json()}\n\n"
        if over:
            return
        try:
            async with asyncio.timeout(_ALIVE):
                await change.wait()
        except TimeoutError:
            yield ": still there\n\n"


async def _content(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=0) as form:
        upload = form.get("audio")
        if not isinstance(upload, UploadFile):
            raise Refused(422, "the form lacks a file called audio: curl -F audio=@noisy.wav does it")
        if any(part in (upload.filename or "") for part in ("/", "\\", "\0")):
            raise Refused(422, "the name of the file is a path; send the name alone, or none")
        return await upload.read()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _sound_response(job: Job, sounds: list[Audio], file_format: Format) -> Response:
    """Returns one sound of a job, or several as a ZIP."""
    files = [await asyncio.to_thread(_encoded, sound, file_format, job.form) for sound in sounds]
    headers = {} if job.transcript.seed is None else {"Hiss-Seed": str(job.transcript.seed)}
    if len(files) == 1:
        return Response(files[0], 200, headers, MEDIA[file_format])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, file in enumerate(files):
            archive.writestr(zipfile.ZipInfo(f"{number}.{file_format}"), file)  # of no time: a seed fixes all bytes
    return Response(content.getvalue(), 200, headers, "application/zip")


def _encoded(sound: Audio, file_format: Format, form: Form | None) -> bytes:
    subtype = None if form is None else form.kept_in(file_format)
    fitting = sound.normalize("peak", 0.0) if sound.peak > 1 and subtype not in FLOATING else sound
    return fitting.encode(file_format, subtype=subtype, resample=True)


def _describe(app: FastAPI, *, secured: bool) -> None:
    """Completes the OpenAPI document."""
    plain: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        parts = document["components"]
        parts["schemas"] |= {"Problem": Problem.model_json_schema(ref_template="#/components/schemas/{model}")}
        for unused in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(unused, None)
        if secured:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
        return document

    app.openapi = described  # type: ignore[method-assign]
