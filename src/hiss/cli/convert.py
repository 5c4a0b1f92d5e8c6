"""hiss convert: models from other programs, and for them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hiss.cli.completion import complete_model
from hiss.cli.outputs import check_writable
from hiss.cli.terminal import terminal
from hiss.errors import UsageError

if TYPE_CHECKING:
    from hiss.rounding import Bits

EXAMPLE = "Example: hiss convert audioldm-s-full-v2/ -o models/audioldm"


class Form(StrEnum):
    """What a model becomes."""

    hiss = "hiss"
    diffusers = "diffusers"
    onnx = "onnx"


def convert(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A folder that diffusers saved, or a model of ours.", autocompletion=complete_model
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder, or the ONNX file, to write.")],
    to: Annotated[Form, typer.Option(help="What the model becomes.")] = Form.hiss,
    bits: Annotated[int | None, typer.Option(help="Of each number of a model of ours: 32, 16 or 8.")] = None,
) -> None:
    """Take over an AudioLDM, make a model smaller, or hand it on to diffusers or ONNX.

    To diffusers go the parts of a latent model that it knows; the command says
    which. To ONNX goes a causal denoiser, frame by frame.
    """
    screen = terminal(context)
    if bits is not None and (to is not Form.hiss or bits not in (8, 16, 32)):
        raise UsageError("bits are those of a model of ours: 32, 16 or 8")
    check_writable(output.parent)

    from hiss.pipeline import bundled, load

    if to is Form.hiss:
        from hiss.interop.audioldm import read_audioldm

        if output.exists():
            raise UsageError(f"{output} is there already; choose a new folder")
        ours = source in bundled() or (Path(source) / "config.json").is_file()
        if ours and bits is None:
            raise UsageError(
                f"{source} is a model of ours already; ask for a smaller one by --bits, or another form by --to"
            )
        pipeline = load(source) if ours else read_audioldm(source)
        pipeline.save_pretrained(output, bits=cast("Bits | None", bits))
    elif to is Form.diffusers:
        from hiss.interop.diffusers_folder import write_diffusers

        screen.say("written: " + ", ".join(write_diffusers(load(source), output)))
    else:
        from hiss.interop.onnx import export_onnx

        output.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(load(source), output)
    screen.result(str(output))
