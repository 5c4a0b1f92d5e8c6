"""What a training run writes down while it lasts: metrics.jsonl and TensorBoard files, on this disk only."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hiss.audio import Audio, replacing
from hiss.errors import HissError


class Journal:
    """Numbers, sounds and pictures of a run, under `folder`; with None for a folder nothing is written."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._board: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise HissError(f"training needs TensorBoard ({error}): pip install 'hiss[train]'") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def rewind(self, step: int) -> None:
        """Forgets what was noted after `step`: a crash undid it, and the resumed run will note it again."""
        if self.folder is None:
            return
        metrics = self.folder / "metrics.jsonl"
        if metrics.exists():
            kept = [line for line in metrics.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
            with replacing(metrics) as beside:
                beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._board.close()
        self._board = type(self._board)(str(self.folder / "tensorboard"), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Notes numbers by name, such as `train/loss`; those that are not finite are left out."""
        if self.folder is None:
            return
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | finite) + "\n")
        for name, value in finite.items():
            self._board.add_scalar(name, value, step)

    def audio(self, step: int, name: str, audio: Audio) -> None:
        """Notes a sound, so that TensorBoard can play it (in mono, without what exceeds full scale)."""
        if self.folder is not None:
            self._board.add_audio(name, audio.mono().samples.clamp(-1, 1), step, audio.sample_rate)

    def picture(self, step: int, name: str, pixels: Any) -> None:
        """Notes a picture, an array of bytes [rows, columns, 3]."""
        if self.folder is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Ends the files."""
        if self._board is not None:
            self._board.close()


def _step(line: str) -> float:
    """Returns the step of a line of metrics.jsonl; a line that a crash cut off belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
