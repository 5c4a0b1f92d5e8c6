"""What every representation is: an (almost) invertible map between audio and the tensor that diffusion runs on."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from hiss.signal.resampling import turned
from hiss.spec import Spec


class RepresentationConfig(Spec, ABC):
    """Family of representation configurations; a member lives in one file of this folder."""

    @abstractmethod
    def build(self, sample_rate: int, audio_channels: int) -> "Representation":
        """Returns the representation for audio of that rate (Hz) and number of channels, not yet fitted."""


class Coding(ABC):
    """A representation at work on one batch of signals that come in pieces: the same numbers as for the whole."""

    latency: int
    """Samples from one that goes in until it comes out again."""

    @abstractmethod
    def encode(self, audio: Tensor, *, last: bool = False) -> Tensor:
        """Returns the frames [batch, channels, *space], maybe none, that the next samples complete."""

    @abstractmethod
    def decode(self, x: Tensor, *, last: bool = False) -> Tensor:
        """Returns the audio [batch, audio_channels, samples], maybe none, that the next frames complete."""


class Representation(nn.Module, ABC):
    """Maps audio to a tensor of about zero mean and unit variance, and back."""

    config: RepresentationConfig
    sample_rate: int
    """Hz."""
    audio_channels: int
    channels: int
    """Channels of the encoded tensor."""
    dims: int
    """Space dimensions of the encoded tensor: 1 or 2; time is the last."""
    hop: int
    """Samples from one frame to the next; frame k stands at sample k * hop."""
    margin: int
    """Frames on either side that a sample is made from besides its own, and whose samples a frame is made from. 0 where
    frames do not overlap, or the encoding goes round in a circle."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Returns [batch, channels, *space] of audio [batch, audio_channels, samples]."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Returns audio [batch, audio_channels, samples] of x [batch, channels, *space].

        May be longer than what was encoded where the last frame was padded: the model trims.
        """

    def decode_circle(self, x: Tensor) -> Tensor:
        """Returns audio [batch, audio_channels, frames * hop] of frames x whose last is followed by the first."""
        hop, frames = self.hop, x.shape[-1]
        size = self.shape((frames + 2 * self.margin) * hop)[-1]
        around = self.decode(turned(x, start=-self.margin, size=size))
        return around[..., self.margin * hop : (self.margin + frames) * hop]

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Returns the shape (channels, *space) of one encoded example of that many samples, without encoding."""

    @final
    def kept(self, keep: Tensor) -> Tensor:
        """Returns how much of each frame is kept [frames], where `keep` [samples] in [0, 1] says it of the samples.

        That is as much as the least kept sample that the frame is made from; what lies outside is silence, and kept.
        """
        reach = self.margin * self.hop
        return least(functional.pad(keep, (reach, reach + -len(keep) % self.hop), value=1.0), self)

    def coding(self) -> Coding | None:
        """Returns what encodes and decodes in pieces; None where only a whole can be encoded."""
        return None

    @abstractmethod
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measures the scale statistics over audio [batch, audio_channels, samples] of the whole training set."""


def least(keep: Tensor, representation: Representation) -> Tensor:
    """Returns the least of the samples that each frame is made from [frames].

    `keep` [samples] is whole hops, `margin` of them before the first frame and after the last.
    """
    hop, margin = representation.hop, representation.margin
    hops = len(keep) // hop - 2 * margin
    # Frames that are centred on samples are one more than the hops, and reach to either side; others cover a hop, too.
    own = hops + 1 - representation.shape(hops * hop)[-1]
    lost = functional.max_pool1d(1 - keep.float()[None, None], (2 * margin + own) * hop, stride=hop)
    return 1 - lost[0, 0]
