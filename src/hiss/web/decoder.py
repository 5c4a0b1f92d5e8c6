"""A process that decodes uploads, and nothing else: what a malicious file can harm is this process.

It writes a byte to stdout when it is ready, then reads recordings from stdin, each as its size (8 bytes) and content,
and answers in messages, each as its kind (1 byte), size (4 bytes) and content: "h", a header in JSON; "d", float32
samples frame by frame; then "." at the end, or "e", why it failed. It writes no file, and its first argument says how
many bytes of address space it gets.
"""

import io
import json
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

import soundfile

BLOCK = 1 << 15
"""Frames of a message."""
_UNKNOWN = 0x7FFF0000  # sizes from here on, and 0, are written by programs that do not know them yet


def messages(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields what is to be said of a recording: (kind, content) of each message."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            claimed, read = (file.frames if file.frames < _UNKNOWN else 0), 0
            form = {"rate": file.samplerate, "channels": file.channels, "frames": claimed, "subtype": file.subtype}
            yield b"h", json.dumps(form).encode()
            file.seekable = lambda: False  # or soundfile seeks after each read, and MP3 goes on with wrong samples
            while count := len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                read += count
                yield b"d", block.tobytes()
        if not read:
            yield b"e", b"it holds no samples"
        elif (file.format != "MP3" and read < claimed) or _cut(content):
            yield b"e", b"it was cut off"
        else:
            yield b".", b""
    except MemoryError:
        yield b"e", b"it takes too much memory"
    except Exception as error:  # whatever a decoder makes of a broken file is an answer, not an end
        reason = str(getattr(error, "error_string", error))
        yield b"e", f"it cannot be read as audio: {reason.rstrip('.')}".encode()


def _cut(content: bytes) -> bool:
    """Returns whether a WAV file claims to be longer than it is."""
    size = int.from_bytes(content[4:8], "little")
    return content[:4] == b"RIFF" and len(content) < size + 8 and size < _UNKNOWN


def confine(memory: int) -> None:
    """Takes from this process what decoding does not need: memory beyond so many bytes, files, core dumps."""
    with suppress(ImportError):  # Windows has no such limits
        import resource

        for limit, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
            with suppress(ValueError, OSError):  # not every system has each of them
                resource.setrlimit(limit, (most, most))


def main() -> None:
    """Answers one recording after the other until stdin ends."""
    confine(int(sys.argv[1]))
    source, target = sys.stdin.buffer, sys.stdout.buffer
    target.write(b".")
    target.flush()
    while len(size := source.read(8)) == 8:
        for kind, content in messages(source.read(int.from_bytes(size, "little"))):
            target.write(struct.pack("<cI", kind, len(content)))
            target.write(content)
        target.flush()


if __name__ == "__main__":
    main()
