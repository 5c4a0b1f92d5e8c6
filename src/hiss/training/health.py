"""Is a training run still sound? Smoothed loss, its best, and steps that had to be skipped."""

from dataclasses import dataclass

_MEMORY = 100
"""Steps over which the loss is smoothed."""


@dataclass
class Health:
    """What the losses so far say.

    The loss may be negative (a likelihood, an SI-SDR), so "worse than its best" is measured in units of
    |best| + spread, where spread is the mean distance of single losses from the smoothed one.
    """

    seen: int = 0
    loss: float = 0.0
    spread: float = 0.0
    best: float | None = None
    unit: float = 0.0
    skipped: int = 0
    """Steps without a finite loss and gradient, in all."""
    in_a_row: int = 0
    """The same, since the last good one."""

    def update(self, loss: float, *, finite: bool) -> None:
        """Takes the loss of one step; `finite` is False where the step was skipped."""
        if not finite:
            self.skipped += 1
            self.in_a_row += 1
            return
        self.in_a_row = 0
        self.seen += 1
        weight = max(1 / self.seen, 1 / _MEMORY)
        self.spread += weight * (abs(loss - self.loss) - self.spread) if self.seen > 1 else 0.0
        self.loss += weight * (loss - self.loss)
        if self.seen >= _MEMORY and (self.best is None or self.loss < self.best):
            self.best, self.unit = self.loss, abs(self.loss) + self.spread

    def diverged(self, factor: float) -> bool:
        """Whether the smoothed loss is worse than its best by `factor` units; never where `factor` is 0."""
        return factor > 0 and self.best is not None and not self.loss <= self.best + factor * max(self.unit, 1e-12)
