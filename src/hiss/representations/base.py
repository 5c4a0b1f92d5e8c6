"""What every representation is: an (almost) invertible map between audio and the tensor that diffusion runs on."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

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

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Returns [batch, channels, *space] of audio [batch, audio_channels, samples]."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Returns audio [batch, audio_channels, samples] of x [batch, channels, *space].

        May be longer than what was encoded where the last frame was padded: the model trims.
        """

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Returns the shape (channels, *space) of one encoded example of that many samples, without encoding."""

    def coding(self) -> Coding | None:
        """Returns what encodes and decodes in pieces; None where only a whole can be encoded."""
        return None

    @abstractmethod
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measures the scale statistics over audio [batch, audio_channels, samples] of the whole training set."""
