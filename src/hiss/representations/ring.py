"""A sound that goes round in a circle, in any representation."""

import torch
from torch import Tensor

from hiss.representations.base import Representation, least
from hiss.signal.resampling import resample_period, turned


class Ring:
    """A representation at work on a period of a sound, whose end leads back to its start, without a seam.

    The period is brought to a whole number of frames, which changes its pitch a little: by at most half a frame in all
    of it, 3 cents for 3 s in frames of 256 samples at 22,050 Hz. What the first and the last frames share with their
    neighbours is taken from the other end.
    """

    def __init__(self, representation: Representation, samples: int) -> None:
        """Keeps the representation and the length of the period."""
        self.representation, self.samples = representation, samples
        self.frames = max(1, round(samples / representation.hop))

    def encode(self, audio: Tensor) -> Tensor:
        """Returns x [batch, channels, *space] of a period of audio [batch, audio_channels, samples]."""
        hop, margin = self.representation.hop, self.representation.margin
        whole = resample_period(audio, self.frames * hop)
        around = turned(whole, start=-margin * hop, size=(self.frames + 2 * margin) * hop)
        return self.representation.encode(around)[..., margin : margin + self.frames]

    def decode(self, x: Tensor) -> Tensor:
        """Returns the period of audio [batch, audio_channels, samples] of x [batch, channels, *space]."""
        return resample_period(self.representation.decode_circle(x), self.samples)

    def shape(self, samples: int) -> tuple[int, ...]:
        """Returns the shape (channels, *space) of a period, which has that many samples."""
        return (*self.representation.shape(samples)[:-1], self.frames)

    def kept(self, keep: Tensor) -> Tensor:
        """Returns how much of each frame is kept [frames]; see `Representation.kept`."""
        hop, reach = self.representation.hop, self.representation.margin * self.representation.hop
        whole = keep[torch.arange(self.frames * hop) * self.samples // (self.frames * hop)]
        return least(turned(whole, start=-reach, size=len(whole) + 2 * reach), self.representation)[: self.frames]
