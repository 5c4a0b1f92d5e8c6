"""hiss doctor: what it finds where everything works, and what it says where something does not."""

import json
from pathlib import Path

import pytest
from command_line import hiss, tiny_model
from denoisers import tiny_denoiser

from hiss.audio import FORMATS
from hiss.cli.extras import EXTRAS
from hiss.errors import MissingPackageError


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shelf of a package whose models are tiny."""
    tiny_model(tmp_path / "digits")
    tiny_denoiser().save_pretrained(tmp_path / "denoise-16k")
    monkeypatch.setattr("hiss.pipeline._shelf", lambda: tmp_path)
    return tmp_path


def test_a_working_installation_is_described_and_tried() -> None:
    result = hiss("doctor", "--json")
    assert result.exit_code == 0, result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert all(check["ok"] for check in checks.values())
    assert all(name in checks["formats"]["found"] for name in FORMATS)
    assert checks["model denoise-16k"]["found"].startswith("denoises; 2.0 s")
    assert checks["model digits"]["found"].startswith("generates; 0.1 s")
    assert {f"extra {extra}" for extra in EXTRAS.values()} <= set(checks)


def test_people_get_a_table() -> None:
    result = hiss("doctor")
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} >= {
        *("hiss", "Python", "torch", "threads", "bf16", "formats")
    }
    assert "BROKEN" not in result.stdout


def test_a_damaged_model_is_named_and_the_status_is_1(shelf: Path) -> None:
    (shelf / "digits" / "model.safetensors").write_bytes(b"nothing")
    result = hiss("doctor")
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    assert "error: broken: model digits, as listed above" in result.stderr
    broken = [check for check in json.loads(hiss("doctor", "--json").stdout) if not check["ok"]]
    assert [check["name"] for check in broken] == ["model digits"]
    assert "is damaged" in broken[0]["found"]


def test_a_failure_that_nobody_foresaw_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no codec\nat all")

    monkeypatch.setattr("hiss.audio.Audio.encode", fails)
    result = hiss("doctor", "--json")
    assert result.exit_code == 1
    assert {check["name"]: check["found"] for check in json.loads(result.stdout)}["formats"] == (
        "RuntimeError: no codec at all"
    )


def test_an_extra_that_is_not_installed_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiss.cli.doctor.find_spec", lambda package: None if package == "pesq" else package)
    result = hiss("doctor", "--json")
    assert result.exit_code == 0
    assert {check["name"]: check["found"] for check in json.loads(result.stdout)}["extra metrics"] == (
        "not installed: pesq"
    )


def test_neither_is_a_model_that_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> None:
        raise MissingPackageError(f"{name} lacks hiss[text]")

    monkeypatch.setattr("hiss.pipeline.load", lacking)
    result = hiss("doctor", "--json")
    assert result.exit_code == 0, result.output
    assert {"name": "model digits", "found": "digits lacks hiss[text]", "ok": True} in json.loads(result.stdout)
    assert "digits lacks hiss[text]" in hiss("doctor").stdout
