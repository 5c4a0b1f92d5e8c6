"""The Dockerfile names only what is there and what gets past .dockerignore; it is not built here."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_everything_that_is_copied_is_there_and_sent_to_the_builder() -> None:
    copied = [
        name
        for line in re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text(), re.M)
        for name in line.split()[:-1]
    ]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied
    assert set(copied) == sent
    assert all((ROOT / name).exists() for name in copied)


def test_what_the_package_needs_to_be_built_is_copied() -> None:
    sent = (ROOT / ".dockerignore").read_text()
    for name in re.findall(r'(?:readme = |license-files = \[)"(.+?)"', (ROOT / "pyproject.toml").read_text()):
        assert f"!{name}" in sent
