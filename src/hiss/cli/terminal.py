"""How every command talks: results on stdout, everything else on stderr, a progress bar where somebody watches."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

_PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False, "emoji": False}
"""Text stays as it is, in tables as well: a file may be called a:on:b.wav, and an extra is hiss[text]."""


@dataclass(frozen=True)
class Bar:
    """A progress bar that may be invisible; `total` in the same unit as `done`."""

    progress: Progress
    task: TaskID

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Moves the bar to `done` and writes `note` beside it."""
        self.progress.update(self.task, completed=done, total=total, note=note)


@dataclass(frozen=True)
class Terminal:
    """What a command prints to; made once, from the options that hold for every command."""

    quiet: bool = False
    verbose: bool = False
    results: Console = field(default_factory=lambda: Console(**_PLAIN))
    messages: Console = field(default_factory=lambda: Console(stderr=True, **_PLAIN))

    def result(self, text: str) -> None:
        """Prints one line of what was asked for, as it stands."""
        self.results.print(text)

    def show(self, what: RenderableType) -> None:
        """Prints a table, a panel or Markdown that was asked for."""
        self.results.print(what, soft_wrap=False)

    def json(self, data: Any) -> None:
        """Prints `data` as JSON, for other programs."""
        self.results.print(json.dumps(data, indent=2))

    def say(self, text: str) -> None:
        """Prints a remark on stderr, unless --quiet."""
        if not self.quiet:
            self.messages.print(text)

    def complain(self, text: str) -> None:
        """Prints on stderr what went wrong, also with --quiet."""
        self.messages.print(text)

    @contextmanager
    def bar(self, title: str, total: float | None = None) -> Iterator[Bar]:
        """Shows a progress bar on stderr while the block runs, if that is a terminal and --quiet was not given."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        hidden = self.quiet or not self.messages.is_terminal
        progress = Progress(*columns, console=self.messages, disable=hidden, transient=True)
        bar = Bar(progress, progress.add_task(title, total=total, note=""))
        with nullcontext() if hidden else progress:
            yield bar

    def listen(self) -> None:
        """Sends what the library warns of and logs to stderr: more of it with --verbose, less with --quiet."""
        warnings.showwarning = lambda message, *_: self.say(f"warning: {message}")
        level = logging.ERROR if self.quiet else logging.INFO if self.verbose else logging.WARNING
        handler = RichHandler(console=self.messages, show_time=False, show_path=False)
        logger = logging.getLogger("hiss")
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def take_any_name() -> None:
    """Lets names of files that are no Unicode be printed as the bytes that they are, where that would fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="surrogateescape")


def terminal(context: typer.Context) -> Terminal:
    """Returns the terminal that the global options made."""
    found = context.find_object(Terminal)
    return found if found is not None else Terminal()
