"""Noise out of a stream: raw samples or a WAV file on stdin, the same without noise on stdout, as they come."""

import os
import sys
from collections.abc import Iterator
from io import BufferedIOBase
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import typer

from hiss.cli.terminal import Terminal
from hiss.errors import HissError, UsageError

if TYPE_CHECKING:
    from hiss.audio.pcm import Pcm
    from hiss.denoise_folders import Way

_MOST = 1 << 16  # bytes that are read at once, if there are so many already
_ENDED_BY_SIGPIPE = 141
_ENDED_BY_SIGINT = 130


def denoise_stdin(screen: Terminal, way: "Way", raw: "Pcm | None") -> None:
    """Cleans stdin onto stdout; `raw` says how the samples are written if that is no WAV file.

    Raises:
        UsageError: stdin or stdout is a terminal, or it is not known how the samples are written.
        HissError: nothing came in, it is damaged, or it holds NaN or infinity.
    """
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise UsageError("--stream reads sound from stdin and writes it to stdout: connect both with | or < and >")
    source = sys.stdin.buffer
    assert isinstance(source, BufferedIOBase)
    try:
        _clean(source, sys.stdout.buffer, screen, way, raw)
    except BrokenPipeError:
        # Who listened has gone; what Python still holds for stdout goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_ENDED_BY_SIGPIPE) from None
    except KeyboardInterrupt:
        raise typer.Exit(_ENDED_BY_SIGINT) from None


def _clean(source: BufferedIOBase, target: BinaryIO, screen: Terminal, way: "Way", raw: "Pcm | None") -> None:
    import torch

    from hiss.audio.pcm import is_wav, read_header

    torch.set_num_threads(1)  # blocks are small: threads would wait for each other more than they work
    start = source.read(12)
    if not start:
        raise HissError("nothing came in on stdin; check the program before the |")
    if is_wav(start):
        pcm, start = read_header(source), b""
        if raw is not None and (raw.sample_rate, raw.channels) != (pcm.sample_rate, pcm.channels):
            raise UsageError(
                f"the WAV stream has {pcm.sample_rate} Hz and {pcm.channels} channels, not {raw.sample_rate} Hz and "
                f"{raw.channels}; leave out --rate, --channels and --encoding"
            )
        head = pcm.header()
    elif raw is None:
        raise UsageError("stdin is no WAV file; for raw samples add --rate HZ, --channels N and --encoding s16 or f32")
    else:
        pcm, head = raw, b""
    stream = way.pipeline(pcm.sample_rate).stream(pcm.sample_rate, pcm.channels, steps=way.steps, keep_db=way.keep_db)
    screen.say(f"latency {1000 * stream.latency:.0f} ms")
    beyond = 0

    def write(clean: "torch.Tensor") -> None:
        nonlocal beyond
        beyond += int((clean.abs() > 1).sum())
        _write(target, pcm.encode(clean))

    _write(target, head)
    waiting = b""
    for content in chain([start], _pieces(source, pcm.size)):
        waiting += content
        whole = len(waiting) - len(waiting) % pcm.frame
        write(stream.push(pcm.decode(waiting[:whole])))
        waiting = waiting[whole:]
    write(stream.finish())
    if beyond and not pcm.encoding.startswith("f"):
        screen.say(f"warning: {beyond} samples were beyond full scale and are limited to it")
    if waiting:
        screen.say(f"warning: the stream ended within a sample; its last {len(waiting)} bytes are left out")


def _pieces(source: BufferedIOBase, size: int | None) -> Iterator[bytes]:
    """Yields what comes in, as it comes, up to so many bytes or to the end."""
    left = size
    while content := source.read1(_MOST if left is None else min(_MOST, left)):
        left = None if left is None else left - len(content)
        yield content


def _write(target: BinaryIO, content: bytes) -> None:
    """Writes all of `content` at once; stdout without a buffer may take it in parts."""
    while content:
        content = content[target.write(content) :]
    target.flush()
