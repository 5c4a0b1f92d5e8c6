"""The documentation is built without a warning, and no page of it asks for anything from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hiss.cli import app
from hiss.pipeline import bundled

ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"""<(?:script|img|audio|source|iframe)\b[^>]*\ssrc=["']?(?:https?:)?//[^"'\s>]+
    |<link\b[^>]*\srel=["']?(?:stylesheet|preconnect|preload|icon)[^>]*\shref=["']?(?:https?:)?//[^"'\s>]+""",
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    return folder


@pytest.mark.slow
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert {page.name: found for page in pages if (found := LOADED.findall(page.read_text()))} == {}


@pytest.mark.slow
def test_every_command_and_every_model_is_described(site: Path) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = (site / "commands.html").read_text()
    assert [name for name in group.commands if f'<h2 id="hiss-{name}">' not in commands] == []
    models = (site / "models.html").read_text()
    assert [name for name in bundled() if f'<h2 id="{name}">' not in models] == []


@pytest.mark.slow
def test_the_reference_has_the_public_names(site: Path) -> None:
    page = (site / "reference" / "hiss.html").read_text()
    assert all(f'id="hiss.{name}"' in page for name in ("Audio", "Pipeline", "load", "denoise_audio"))


def test_what_would_load_from_elsewhere_is_noticed() -> None:
    assert LOADED.search('<script src="https://host/x.js"></script>')
    assert LOADED.search('<link href="x" rel=stylesheet href=//host/x.css>')
    assert not LOADED.search('<a href="https://host">link</a> <img src="images/x.png">')
