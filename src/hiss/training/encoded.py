"""Examples that were encoded before the training: what a slow representation makes of them, kept in one file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hiss.audio import replacing
from hiss.data import Dataset
from hiss.data.examples import Examples, Order, Place, check_batching, in_order
from hiss.errors import UsageError
from hiss.representations import Representation
from hiss.types import Batch

_TOGETHER = 16
"""Clips that are encoded at a time."""


class Encoded(Dataset):
    """The examples of other data, with `Batch.encoded`: cut and augmented anew in so many passes, which then repeat.

    What is encoded, in half precision, lies in a file `encoded-DIGEST.npy` and is read from there, not loaded; the
    digest tells it from that of other data or another representation. Where it is missing, `batches` makes it, in each
    process for itself.
    """

    def __init__(self, data: Examples, representation: Representation, *, passes: int, folder: Path) -> None:
        self.data, self.representation, self.passes, self.folder = data, representation, passes, folder
        self.sample_rate, self.channels, self.samples = data.sample_rate, data.channels, data.samples
        self.report, self.size = data.report, data.size

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        check_batching(batch_size, start, rank, world, workers)
        path = self.folder / f"encoded-{self.digest(seed)}.npy"
        if not path.is_file():
            self.encode(path, seed)
        order = Order(len(self.data), batch_size, seed, start, rank, world)
        return in_order(_Reader(self.data, seed, np.load(path, mmap_mode="r")), order, workers=workers)

    def once(self, batch_size: int) -> Iterator[Batch]:
        return self.data.once(batch_size)

    def digest(self, seed: int) -> str:
        """Returns what tells apart all that decides what is encoded."""
        said = hashlib.sha256(repr((seed, self.passes, self.channels, self.samples, self.sample_rate)).encode())
        said.update(repr((self.data.config.to_dict(), self.data.size, self.data.report.seconds)).encode())
        for name, tensor in self.representation.state_dict().items():
            said.update(name.encode())
            said.update(tensor.cpu().numpy().tobytes())
        return said.hexdigest()[:12]

    @torch.no_grad()
    def encode(self, path: Path, seed: int) -> None:
        """Writes a file [pass, item, channels, *space], whole or not at all."""
        device = next(iter(self.representation.state_dict().values()), torch.empty(0)).device
        count = len(self.data)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            found = np.lib.format.open_memmap(
                beside,
                mode="w+",
                dtype=np.float16,
                shape=(self.passes, count, *self.representation.shape(self.samples)),
            )
            for epoch in range(self.passes):
                for first in range(0, count, _TOGETHER):
                    items = range(first, min(first + _TOGETHER, count))
                    batch = self.data.batch([(epoch, item) for item in items], seed)
                    encoded = self.representation.encode(batch.audio.to(device))
                    found[epoch, items.start : items.stop] = encoded.half().cpu().numpy()
            found.flush()


def check_passes(passes: int) -> None:
    """Raises `UsageError` unless it can be a number of passes over the data."""
    if passes < 0:
        raise UsageError(f"encoded is a number of passes, 0 or more, not {passes}")


def encoded(examples: Dataset, representation: Representation, *, passes: int, folder: Path) -> Dataset:
    """Returns the examples with `Batch.encoded`, made in so many passes and kept in a folder; as they are with 0.

    Raises:
        UsageError: the examples cannot be read in any order.
    """
    if not passes:
        return examples
    if not isinstance(examples, Examples):
        raise UsageError("encoded needs recordings that can be read in any order, and these are mixed or streamed")
    return Encoded(examples, representation, passes=passes, folder=folder)


@dataclass(frozen=True)
class _Reader:
    """Turns a list of places into a batch, here or in a worker."""

    data: Examples
    seed: int
    encoded: NDArray[np.float16]
    """[pass, item, channels, *space]."""

    def __getitem__(self, places: list[Place]) -> Batch:
        known = [(epoch % len(self.encoded), item) for epoch, item in places]
        encoded = torch.stack([torch.from_numpy(self.encoded[place].copy()) for place in known])
        return replace(self.data.batch(known, self.seed), encoded=encoded)
