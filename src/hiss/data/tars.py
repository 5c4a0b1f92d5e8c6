"""WebDataset shards: tar files whose members KEY.flac, KEY.json, ... make up one sample each."""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]  # typeshed lacks the first
from typing import Any, BinaryIO, Self

from hiss.audio import ENDINGS, Audio
from hiss.errors import HissError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class _Member(tarfile.TarInfo):
    """A member whose header must be whole; tarfile takes a damaged one, but for the first, for the end of the shard."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:  # zeros: the proper end
            raise
        except HeaderError as error:
            raise ReadError(f"{error} at byte {tarfile.offset}; it is damaged or was cut off") from error


@dataclass(frozen=True)
class Sample:
    """The members of one key, not decoded."""

    key: str
    members: Mapping[str, bytes]
    """Ending -> content."""

    def audio(self) -> Audio:
        """Returns the recording.

        Raises:
            HissError: there is none, or it is damaged.
        """
        for ending, content in self.members.items():
            if ending.rpartition(".")[2].lower() in ENDINGS:
                return Audio.load(BytesIO(content))
        raise HissError(f"has no audio among its members ({', '.join(self.members)})")

    def metadata(self) -> dict[str, Any]:
        """Returns what its .txt (the key `text`) and .json members say.

        Raises:
            HissError: they are damaged.
        """
        try:
            metadata: dict[str, Any] = {}
            if "txt" in self.members:
                metadata["text"] = self.members["txt"].decode("utf-8-sig").strip()
            if "json" in self.members:
                metadata |= json.loads(self.members["json"])
        except (ValueError, TypeError) as error:
            raise HissError(f"has unreadable metadata: {error}") from error
        return metadata


def is_remote(shard: str) -> bool:
    """Returns whether a shard is fetched through webdataset instead of opened."""
    return "://" in shard or shard.startswith("pipe:")


def expand(pattern: str) -> list[str]:
    """Returns the shards that a pattern means: {000000..000003} and {a,b} written out, then * and ? looked up.

    A folder means the tar files in it.

    Raises:
        HissError: a local shard does not exist, or none fits.
    """
    shards: list[str] = []
    for name in _written_out(pattern):
        if is_remote(name):
            shards.append(name)
        elif Path(name).is_dir():
            shards.extend(sorted(map(str, Path(name).glob("*.tar"))))
        elif Path(name).is_file():
            shards.append(name)
        elif any(character in name for character in "*?["):
            root = Path(name).anchor
            shards.extend(sorted(map(str, Path(root).glob(name.removeprefix(root)))))
        else:
            raise HissError(f"there is no shard {name}; give tar files, a pattern such as pack-{{000000..000003}}.tar")
    if not shards:
        raise HissError(f"no shard fits {pattern}; give tar files, a pattern with * or {{000000..000003}}, or a folder")
    return shards


def _written_out(pattern: str) -> Iterator[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    if numbers := _RANGE.fullmatch(braces[1]):
        first, last = numbers.groups()
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        choices = braces[1].split(",")
    for choice in choices:
        yield from _written_out(pattern[: braces.start()] + choice + pattern[braces.end() :])


def samples(shard: str) -> Iterator[Sample]:
    """Yields the samples of a shard in order.

    Raises:
        HissError: it cannot be read, or breaks off; the sample before the break, which may lack members, is not given.
    """
    try:
        with _stream(shard) as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar:
            for key, members in groupby(_members(tar), lambda member: member[0]):
                yield Sample(key, {ending: content for _, ending, content in members})
    except (tarfile.TarError, OSError, EOFError) as error:
        raise HissError(f"cannot read the shard {shard}: {error}") from error


def _stream(shard: str) -> BinaryIO:
    if not is_remote(shard):
        return Path(shard).open("rb")
    try:
        import webdataset
    except ImportError as error:
        raise HissError(f"reading {shard} needs webdataset: pip install 'hiss[train]'") from error
    stream: BinaryIO = webdataset.gopen(shard)
    return stream


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Yields (key, ending, content): the key ends at the first dot of the file name."""
    for member in tar:
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        file = tar.extractfile(member) if stem and ending else None
        if file is not None:
            yield f"{folder}/{stem}" if folder else stem, ending.lower(), file.read()
