"""What every network is: F(x, noise, condition), built from a frozen config."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from hiss.errors import UsageError
from hiss.spec import Spec
from hiss.types import Condition, State

_WHOLE = "this network needs a recording as a whole"


@dataclass(frozen=True)
class Ports:
    """What flows into and out of a network: widths that the representation and the conditioners decide."""

    channels: int
    """Channels of x, in and out."""
    dims: int = 1
    """Space dimensions of x: 1 (samples or frames) or 2 (bins, frames)."""
    vector: int = 0
    """Features of `Condition.vector`; 0 where there is none."""
    tokens: int = 0
    """Features of each of `Condition.tokens`; 0 where there are none."""
    signal: int = 0
    """Channels of `Condition.signal`; 0 where there is none."""
    bins: int = 0
    """Size of the first of 2 space dimensions; 0 where it is open."""


class NetworkConfig(Spec, ABC):
    """Family of network configurations; a member lives in one file of this folder."""

    @abstractmethod
    def build(self, ports: Ports) -> "Network":
        """Returns the network with fresh weights."""


class Network(nn.Module, ABC):
    """The raw function F that a parameterization wraps into a denoiser."""

    config: NetworkConfig
    ahead: bool = True
    """Whether a frame, a position on the last axis of space, that `forward` makes depends on later ones."""
    attends: bool = False
    """Whether it has self-attention that `hiss.networks.layers.blind` can take its sight."""
    framewise: bool = False
    """Whether it can also take frames as they come, without those to come: then `told` and `piece` work."""

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        """Returns F.

        Args:
            x: [batch, channels, *space], of about unit variance, any size of space.
            noise: [batch], the noise level on the scale that the parameterization chose (log(sigma) / 4).
            condition: what else is known; parts that `Ports` did not announce are ignored.

        Returns:
            [batch, channels, *space].
        """

    def told(self, noise: Tensor, condition: Condition) -> State:
        """Returns what the layers make of the noise and of the vector of the condition, which are those of all pieces.

        Args:
            noise: as for `forward`.
            condition: as for `forward`; only its vector matters.

        Returns:
            Tensors, as many and of such shapes as the network likes, for `piece` with the same batch.

        Raises:
            UsageError: the network is not framewise.
        """
        raise UsageError(_WHOLE)

    def piece(
        self,
        x: Tensor,
        told: State,
        condition: Condition,
        state: State | None = None,
        *,
        ahead: int | None = None,
        ends: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Returns F for the next frames of a longer x, and the state that the frames after them need.

        Pieces of any size, one after the other, give what the whole gives as a single piece. Where `forward` does not
        look ahead, it gives the same.

        Args:
            x: [batch, channels, *space], some frames.
            told: what `told` returned.
            condition: as for `forward`; its signal is cut as x is.
            state: what the piece before returned; nothing for the first.
            ahead: how many of the last frames the next piece begins with again: those before them are made final, with
                these in sight. 0 is the end, as it is for `forward`; left out, nothing looks ahead.
            ends: how many of the frames of each x are its own [batch], whole numbers from 0 on: what looks ahead sees
                those alone, and what is made of the others does not matter. All, where left out.

        Raises:
            UsageError: the network is not framewise.
        """
        raise UsageError(_WHOLE)
