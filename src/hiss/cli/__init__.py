"""The command line: the only place that prints."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hiss.cli import (
    convert,
    data,
    demo,
    denoise,
    doctor,
    evaluate,
    evaluate_denoise,
    evaluate_text,
    generate,
    models,
    plot,
    recipes,
    serve,
    train,
)
from hiss.cli.extras import missing
from hiss.cli.terminal import Terminal, take_any_name
from hiss.errors import HissError, UsageError

_ANYWHERE = {"--debug", "-q", "--quiet", "-v", "--verbose"}
_WrongUse: Any = typer.BadParameter.__bases__[0]  # click's UsageError, which newer typers keep to themselves


class _Command(TyperGroup):
    """The whole program: turns every failure into one sentence and an exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        take_any_name()
        flags, words = _split(sys.argv[1:] if args is None else args)
        debug = "--debug" in flags or os.environ.get("HISS_DEBUG", "0") not in ("", "0")
        try:
            with warnings.catch_warnings():  # a command shows them in its own way
                status = super().main([*flags, *words], "hiss", complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            if debug:
                traceback.print_exc()
            status = 2 if isinstance(error, (_WrongUse, UsageError)) else 1
            typer.echo(f"error: {_sentence(error)}", err=True)
        sys.exit(status or 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted: stopped on request; files that were finished are kept", err=True)
            raise typer.Exit(130) from None


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the options that hold for every command, wherever they were written, and all other words."""
    end = words.index("--") if "--" in words else len(words)
    flags = [word for word in words[:end] if word in _ANYWHERE]
    return flags, [word for word in words[:end] if word not in _ANYWHERE] + list(words[end:]) or ["--help"]


def _sentence(error: Any) -> str:
    """Returns what went wrong, on one line."""
    if isinstance(error, HissError):
        text = str(error)
    elif isinstance(error, _WrongUse):
        where = error.ctx.command_path if error.ctx is not None else "hiss"
        text = f"{error.format_message().rstrip('.')}; see {where} --help"
    elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        text = (
            "not enough memory; make --length, --count or --batch-size smaller, "
            "in training trainer.batch_size, which trainer.accumulate makes up for"
        )
    elif isinstance(error, ImportError) and error.name:
        text = missing(error.name)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'the system'}: {error.strerror}"
    else:
        text = f"{type(error).__name__}: {error} (this is a fault in hiss; --debug shows where)"
    return " ".join(text.split())


app = typer.Typer(
    cls=_Command,
    rich_markup_mode="rich",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: hiss generate 7 --model digits --count 8 --seed 0 -o out/",
)
app.command("generate", epilog=generate.EXAMPLE)(generate.generate)
app.command("denoise", epilog=denoise.EXAMPLE)(denoise.denoise)
app.command("train", epilog=train.EXAMPLE)(train.train)
app.command("recipes", epilog=recipes.EXAMPLE)(recipes.recipes)
app.command("models", epilog=models.EXAMPLE)(models.models)
app.command("convert", epilog=convert.EXAMPLE)(convert.convert)
app.command("plot", epilog=plot.EXAMPLE)(plot.plot)
app.command("serve", epilog=serve.EXAMPLE)(serve.serve)
app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.add_typer(data.app, name="data")
evaluate.app.command("denoise", epilog=evaluate_denoise.EXAMPLE)(evaluate_denoise.denoise)
evaluate.app.command("text", epilog=evaluate_text.EXAMPLE)(evaluate_text.text)
app.add_typer(evaluate.app, name="evaluate")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hiss {version('hiss')}")
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print what happens in between, too.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn noise into sound: train and run audio diffusion models, offline.

    The options below may stand anywhere on the line.
    """
    context.obj = Terminal(quiet=quiet, verbose=verbose)
    context.obj.listen()


def main() -> None:
    """Runs the command line; what the `hiss` script calls."""
    # Threads that wait spin only for a moment, so that they do not take the cores of another busy program.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    app()
