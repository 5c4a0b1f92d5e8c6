"""What the README and the pages in docs/ say is run as it stands, and every link inside the project leads somewhere."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
FENCE = re.compile(r"^(?P<mark><!-- not run -->\n+)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
SET_UP = {"make", "git", "cd"}
SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts at."""

    language: str
    text: str
    line: int

    @property
    def command(self) -> list[str]:
        """Returns what runs the block: a Python or a shell that stops at the first error."""
        if self.language == "python":
            return [sys.executable, "-c", self.text]
        return ["bash", "-euo", "pipefail", "-c", "\n".join(commands(self))]

    @property
    def runs(self) -> bool:
        """Returns whether the block is an example; those that set the project up are not."""
        if self.language == "python":
            return True
        words = {shlex.split(line, comments=True)[0] for line in commands(self)}
        return self.language in ("bash", "console") and "hiss" in words and not words & SET_UP


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page, less those marked `<!-- not run -->`."""
    return [
        Block(match["language"], match["text"], page[: match.start("text")].count("\n") + 1)
        for match in FENCE.finditer(page)
        if not match["mark"]
    ]


def commands(block: Block) -> list[str]:
    """Returns the commands of a shell block; in a console, those after a prompt, as the rest is output."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_of_a_page_runs_in_one_folder_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "120"}
    (tmp_path / "src").symlink_to(ROOT / "src")  # the examples stand in a checkout
    left_out = []
    for block in blocks(page.read_text()):
        if not block.runs:
            continue
        if "HISS_DATA" in block.text and "HISS_DATA" not in os.environ:
            left_out.append(block.line)
            continue
        done = subprocess.run(
            block.command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, f"{page.name}:{block.line}\n{block.text}\n{done.stdout}\n{done.stderr}"
    if left_out:
        pytest.skip(f"HISS_DATA is unset: all examples ran but those at lines {left_out}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


PAGE = """
```python
print(1)
```

<!-- not run -->
```bash
hiss train speech
```

```console
$ hiss generate \\
    --count 2
2 files
$ hiss models
```

```bash
make demo
```

```yaml
hiss: 1
```
"""


def test_marked_blocks_are_left_out() -> None:
    assert [block.language for block in blocks(PAGE)] == ["python", "console", "bash", "yaml"]
    assert [block.line for block in blocks(PAGE)] == [3, 12, 19, 23]


def test_only_python_and_shell_examples_run_and_set_up_does_not() -> None:
    assert [block.runs for block in blocks(PAGE)] == [True, True, False, False]


def test_a_console_runs_what_stands_after_a_prompt_and_skips_its_output() -> None:
    assert [shlex.split(line) for line in commands(blocks(PAGE)[1])] == [
        ["hiss", "generate", "--count", "2"],
        ["hiss", "models"],
    ]
