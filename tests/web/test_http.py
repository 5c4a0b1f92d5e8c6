"""The HTTP interface: what it makes, in which formats, jobs and their progress, and who is let in."""

import asyncio
import io
import json
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path

import denoisers
import pytest
import soundfile
import torch
from serving import Client, served, toy_model, toy_shelf
from typer.testing import CliRunner

from hiss.audio import Audio
from hiss.cli import app
from hiss.errors import UsageError
from hiss.pipeline import Pipeline, load
from hiss.web.app import _reports
from hiss.web.jobs import Job
from hiss.web.limits import Limits
from hiss.web.shelf import Shelf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with served(toy_shelf(folder), limits=Limits(body=1 << 20)) as client:
        yield client


@pytest.fixture(scope="module")
def toy(folder: Path, client: Client) -> Pipeline:
    return load(folder / "toy")


def encoded(sound: Audio, form: str = "wav") -> bytes:
    return sound.normalize("peak").encode(form)


def form(content: bytes, *, field: str = "audio", filename: str = "noisy.wav") -> tuple[bytes, str]:
    """Returns a form with one file, and its content type."""
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


def ended(client: Client, job: str) -> list[dict[str, object]]:
    """Returns all reports of a job."""
    answer = client.get(f"/v1/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(event.removeprefix("data: ")) for event in answer.body.decode().split("\n\n") if event]


def test_a_server_says_that_it_is_well_and_what_it_counts(client: Client) -> None:
    assert client.get("/healthz").json["status"] == "ok"
    client.post("/v1/generate", {"prompt": "low"})
    told = client.get("/metrics").body.decode()
    assert 'hiss_jobs_total{task="generate",state="done"}' in told
    assert "hiss_queue_limit 64" in told
    assert "# TYPE hiss_sound_seconds_total counter" in told


def test_models_say_what_they_can_be_asked_for(client: Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json}
    assert models["toy"]["tasks"] == ["generate", "edit"]
    assert models["toy"]["labels"] == {"note": ["low", "high"]}
    assert models["quiet"]["tasks"] == ["denoise"]


def test_a_card_is_shown_without_scripts_and_styles(client: Client) -> None:
    card = client.get("/v1/models/toy/card").body.decode()
    assert "<td>2</td>" in card
    assert "<script" not in card
    assert client.get("/v1/models/none/card").status == 404


@pytest.mark.parametrize("name", ["wav", "flac", "mp3"])
def test_a_sound_is_that_which_python_makes(client: Client, toy: Pipeline, name: str) -> None:
    answer = client.post("/v1/generate", {"model": "toy", "prompt": "low", "seed": 5, "format": name})
    assert answer.status == 200
    assert answer.headers["hiss-seed"] == "5"
    assert answer.body == encoded(toy.generate("low", seed=5), name)


def test_a_drawn_seed_is_told_and_makes_the_same_again(client: Client) -> None:
    first = client.post("/v1/generate", {})
    assert client.post("/v1/generate", {"seed": int(first.headers["hiss-seed"])}).body == first.body


def test_several_sounds_come_as_a_zip(client: Client, toy: Pipeline) -> None:
    ask = {"model": "toy", "seed": 1, "count": 3, "format": "flac"}
    answer = client.post("/v1/generate", ask)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == ["0.flac", "1.flac", "2.flac"]
        found = [archive.read(name) for name in archive.namelist()]
    assert found == [encoded(one, "flac") for one in toy.generate(count=3, seed=1)]
    assert client.post("/v1/generate", ask).body == answer.body


@pytest.mark.parametrize("multipart", [False, True])
def test_denoising_is_that_of_python_and_keeps_rate_channels_and_sample_format(
    client: Client, folder: Path, multipart: bool
) -> None:
    noisy = denoisers.noise(rate=11025, channels=2)
    content, kind = noisy.encode("wav", subtype="PCM_24"), "audio/wav"
    if multipart:
        content, kind = form(content)
    answer = client.post("/v1/denoise?keep_db=12&format=flac", content, Content_Type=kind)
    assert answer.status == 200, answer.body
    with soundfile.SoundFile(io.BytesIO(answer.body)) as file:
        assert file.subtype == "PCM_24"
    expected = load(folder / "quiet").denoise(noisy, keep_db=12)
    assert torch.allclose(Audio.load(io.BytesIO(answer.body)).samples, expected.samples, atol=1e-6)


def test_a_recording_is_varied_continued_and_mended(client: Client, toy: Pipeline) -> None:
    recording = Audio.load(io.BytesIO(denoisers.noise(0.1).encode()))
    varied = toy.generate("low", init=recording, strength=0.3, seed=2)
    longer = toy.generate("low", continue_from=recording, length=0.2, seed=2)
    mended = toy.generate("low", inpaint=recording, span=(0.02, 0.05), seed=2)
    expected = {
        "how=vary&strength=0.3": encoded(varied),
        "how=vary&strength=0.3&normalize=none": varied.encode(),
        "how=continue&length=0.2": longer.encode(),  # what is kept stays as loud
        "how=inpaint&start=0.02&end=0.05": mended.encode(),
        "how=inpaint&start=0.02&end=0.05&normalize=peak": encoded(mended),
    }
    for query, content in expected.items():
        answer = client.post(f"/v1/edit?{query}&prompt=low&seed=2", recording.encode())
        assert answer.body == content, query


def test_a_job_is_followed_and_its_sounds_come_in_any_format(client: Client, toy: Pipeline) -> None:
    answer = client.post("/v1/generate", {"count": 2, "seed": 3}, Prefer="respond-async")
    assert answer.status == 202
    place = answer.headers["location"]
    reports = ended(client, answer.json["id"])
    assert reports[-1]["state"] == "done"
    assert reports[-1] == client.get(place).json
    assert len(reports[-1]["sounds"]) == 2  # type: ignore[arg-type]
    expected = toy.generate(count=2, seed=3)
    assert client.get(f"{place}/sounds/1?format=flac").body == encoded(expected[1], "flac")
    assert client.get(f"{place}/sounds/2").status == 404
    assert client.ask("DELETE", place).status == 204
    assert client.get(place).status == 404


@pytest.mark.parametrize(
    "ask", [{"prompt": "low", "seed": 4, "steps": 3, "loop": True}, {"seed": 4, "count": 2, "normalize": "rms"}]
)
def test_the_transcript_makes_the_same(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    job = client.post("/v1/generate", ask, Prefer="respond-async").json
    last = ended(client, job["id"])[-1]
    expected = client.get(f"/v1/jobs/{job['id']}/sounds/0").body
    result = CliRunner().invoke(app, shlex.split(job["command"])[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.split()[0]).read_bytes() == expected
    for file in tmp_path.glob("*.wav"):
        file.unlink()
    exec(str(last["python"]), {})
    assert min(tmp_path.glob("*.wav")).read_bytes() == expected


def test_the_transcript_of_work_on_a_recording_runs(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noisy = denoisers.noise(0.1)
    noisy.save("recording.wav")
    mend = "edit?how=inpaint&start=0.02&end=0.05"
    levels = ("edit?how=vary&normalize=none", f"{mend}&normalize=peak")
    for path in ("denoise?keep_db=6", mend, "edit?how=vary", "edit?how=continue", *levels):
        job = client.post(f"/v1/{path}", noisy.encode(), Prefer="respond-async").json
        result = CliRunner().invoke(app, shlex.split(job["command"])[1:], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        made = Path(result.stdout.split()[0])
        first = made.read_bytes()
        made.unlink()
        exec(job["python"], {})
        assert made.read_bytes() == first


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/v1/nothing", b"", 404, "Not Found"),
        ("GET", "/v1/generate", b"", 405, "Method Not Allowed"),
        ("GET", "/v1/jobs/none", b"", 404, "there is no job 'none'"),
        ("POST", "/v1/generate", b"{", 422, "JSON"),
        ("POST", "/v1/generate", {"promt": "low"}, 422, "promt"),
        ("POST", "/v1/generate", {"prompt": "middle"}, 422, "unknown label 'middle'"),
        ("POST", "/v1/generate", {"negative": "low"}, 422, "give guidance above 1"),
        ("POST", "/v1/generate", {"steps": 100_000}, 422, "steps"),
        ("POST", "/v1/generate", {"length": 1e9}, 422, "length"),
        ("POST", "/v1/generate", {"count": 17}, 422, "count"),
        ("POST", "/v1/generate", {"sampler": "nix"}, 422, "unknown sampler 'nix'"),
        ("POST", "/v1/generate", {"model": "quiet"}, 422, "model that can generate"),
        ("POST", "/v1/generate", {"model": "../../etc/passwd"}, 422, "valid are: toy"),
        ("POST", "/v1/edit?how=inpaint", denoisers.noise(0.1).encode(), 422, "start and end"),
        ("POST", "/v1/edit?how=continue&strength=0.3", denoisers.noise(0.1).encode(), 422, "belongs to how=vary"),
        ("POST", "/v1/edit?how=vary&model=quiet", denoisers.noise(0.1).encode(), 422, "model that can edit"),
        ("POST", "/v1/edit?how=vary", denoisers.noise(61.0).encode(), 422, "at most 60 s here, not 61.0 s"),
        ("POST", "/v1/generate", b" " * 70_000, 413, "at most 65536 bytes"),
    ],
)
def test_what_cannot_be_is_refused_with_a_problem(
    client: Client, method: str, path: str, body: bytes | object, status: int, says: str
) -> None:
    answer = client.ask(method, path, body, headers={"Content-Type": "application/json"})
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert says in answer.json["detail"]


def test_pages_of_other_sites_and_other_names_of_this_machine_are_refused(client: Client) -> None:
    assert client.get("/v1/models", Host="evil.example").status == 403
    assert client.get("/v1/models", Origin="http://evil.example").status == 403
    assert client.get("/v1/models", Origin=client.url).status == 200
    answer = client.ask("OPTIONS", "/v1/generate", headers={"Access-Control-Request-Method": "POST"})
    assert answer.status == 405
    assert "access-control-allow-origin" not in answer.headers


def test_a_token_opens_all_but_the_page_is_open_anyway(folder: Path, client: Client) -> None:
    with served(Shelf([str(folder / "toy")]), token="open sesame") as closed:
        answer = closed.get("/v1/models")
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert closed.get("/v1/models", Authorization="Bearer wrong").status == 401
        assert closed.get("/v1/models", Authorization="Bearer open sesame").status == 200
        assert closed.get("/metrics").status == 401
        assert closed.get("/").status == closed.get("/healthz").status == 200
        assert closed.get("/openapi.json").json["security"] == [{"token": []}]


def test_the_page_names_no_other_host_and_may_ask_none(client: Client) -> None:
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for path in ("/", "/page.js", "/sound.js", "/page.css", "/icon.svg"):
        text = client.get(path).body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", ""), path


def test_a_model_that_cannot_be_loaded_is_left_out_unless_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, broken = toy_model(tmp_path / "good"), tmp_path / "broken"
    monkeypatch.setattr("hiss.web.shelf.bundled", lambda: [str(broken), str(good)])
    assert list(Shelf().models) == [str(good)]
    assert "broken is left out" in caplog.text
    with pytest.raises(Exception, match="broken"):
        Shelf([str(broken)])


def test_folders_of_one_name_are_all_offered_and_hide_no_bundled_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hiss.web.shelf.load", lambda source, **_: source)
    monkeypatch.setattr("hiss.web.shelf.bundled", lambda: ["digits", "tones"])
    asked = ["a/model", "b/model", "a/model/", "c/digits", "digits", "d/tones"]
    offered = {"model": "a/model", "b-model": "b/model", "c-digits": "c/digits", "digits": "digits", "tones": "d/tones"}
    assert {name: model.source for name, model in Shelf(asked).models.items()} == offered
    assert list(Shelf(asked).models) == list(offered)
    with pytest.raises(UsageError, match=r"b/model and x/b/model would both be offered as b-model"):
        Shelf(["a/model", "b/model", "x/b/model"])


def test_a_recording_beyond_full_scale_is_turned_down_only_where_it_has_to_be(client: Client) -> None:
    loud = Audio(40 * denoisers.noise().samples, denoisers.RATE)
    content = loud.encode("wav", subtype="FLOAT")
    kept, fitted = (client.post(f"/v1/denoise?keep_db=0&format={one}", content).body for one in ("wav", "flac"))
    assert torch.allclose(Audio.load(io.BytesIO(kept)).samples, loud.samples, rtol=1e-5)
    assert Audio.load(io.BytesIO(fitted)).peak == pytest.approx(1, abs=1e-3)


def test_the_last_report_of_a_job_that_ends_while_one_is_sent_comes() -> None:
    async def told() -> list[str]:
        job = Job("generate")
        job.change("waiting")
        reports = _reports(job)
        first = await anext(reports)
        job.change("done")
        return [first, *[one async for one in reports]]

    first, last = asyncio.run(told())
    assert '"waiting"' in first
    assert '"done"' in last
