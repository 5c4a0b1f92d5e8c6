"""What the README, the pages and the notebooks in docs/ say is run, and every link in the project leads somewhere."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hiss.data.tones import SyntheticTones
from hiss.data.tools import synthesize

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
FENCE = re.compile(
    r"^(?P<mark><!-- not run[^>]*-->\n+)?```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
"""Outside the site; building that follows the links of its pages."""
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
SET_UP = {"make", "git", "cd"}
SECONDS = 300
SHORTER = ((r"--minutes [\d.]+", "--minutes 0.01 trainer.batch_size=2"), (r"\bminutes=[\d.]+", "minutes=0.01"))
"""What the tests change in an example: its trainings end at once."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts at, and the name of the file that it shows."""

    language: str
    text: str
    line: int
    title: str | None = None

    @property
    def command(self) -> list[str]:
        """Returns what runs the block: a Python or a shell that stops at the first error."""
        if self.language == "python":
            return [sys.executable, "-c", self.text]
        return ["bash", "-euo", "pipefail", "-c", "\n".join(commands(self))]

    @property
    def runs(self) -> bool:
        """Returns whether the block is an example; those that set the project up are not."""
        if self.title is not None:
            return False
        if self.language == "python":
            return True
        words = {shlex.split(line, comments=True)[0] for line in commands(self)}
        return self.language in ("bash", "console") and "hiss" in words and not words & SET_UP


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page, less those marked `<!-- not run -->`."""
    return [
        Block(match["language"], match["text"], page[: match.start("text")].count("\n") + 1, match["title"])
        for match in FENCE.finditer(page)
        if not match["mark"]
    ]


def commands(block: Block) -> list[str]:
    """Returns the commands of a shell block; in a console, those after a prompt, as the rest is output."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def shorter(text: str) -> str:
    """Returns an example whose trainings end at once."""
    for pattern, replacement in SHORTER:
        text = re.sub(pattern, replacement, text)
    return text


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Returns how a command ended in a folder, `hiss` being on its path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "120", "HISS_CACHE": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder as the pages speak of it: a checkout in which lie recordings, noisy ones, and music."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name, count, seconds in (("recordings", 100, 0.4), ("music/jazz", 24, 3.0), ("music/folk", 1, 3.0)):
        tones = SyntheticTones(examples=count, harmonics=3)
        synthesize(tmp_path / name, tones, seconds=seconds, sample_rate=16_000, format="wav")
    (tmp_path / "noisy").mkdir()
    shutil.copy(ROOT / "src" / "hiss" / "recordings" / "noisy-speech.flac", tmp_path / "noisy")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_of_a_page_runs_in_one_folder_from_top_to_bottom(page: Path, workplace: Path) -> None:
    left_out = []
    for block in blocks(shorter(page.read_text())):
        if block.title is not None:
            (workplace / block.title).write_text(block.text)
        if not block.runs:
            continue
        if "HISS_DATA" in block.text and "HISS_DATA" not in os.environ:
            left_out.append(block.line)
            continue
        done = run(block.command, workplace)
        assert done.returncode == 0, f"{page.name}:{block.line}\n{block.text}\n{done.stdout}\n{done.stderr}"
    if left_out:
        pytest.skip(f"HISS_DATA is unset: all examples ran but those at lines {left_out}")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_the_cells_of_a_notebook_run_from_top_to_bottom(notebook: Path, workplace: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = run([sys.executable, "-c", shorter(code)], workplace)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_is_kept_without_output(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
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

```python title="model.py"
import nothing
```
"""


def test_marked_blocks_are_left_out() -> None:
    assert [block.language for block in blocks(PAGE)] == ["python", "console", "bash", "yaml", "python"]
    assert [block.line for block in blocks(PAGE)] == [3, 12, 19, 23, 27]


def test_only_python_and_shell_examples_run_and_set_up_does_not() -> None:
    assert [block.runs for block in blocks(PAGE)] == [True, True, False, False, False]


def test_a_block_with_a_title_is_a_file_that_those_after_it_find() -> None:
    assert [block.title for block in blocks(PAGE)] == [None, None, None, None, "model.py"]


def test_trainings_are_cut_short() -> None:
    assert shorter("hiss train tones --minutes 20 a=1") == "hiss train tones --minutes 0.01 trainer.batch_size=2 a=1"
    assert shorter("run(minutes=20)") == "run(minutes=0.01)"


def test_a_console_runs_what_stands_after_a_prompt_and_skips_its_output() -> None:
    assert [shlex.split(line) for line in commands(blocks(PAGE)[1])] == [
        ["hiss", "generate", "--count", "2"],
        ["hiss", "models"],
    ]
