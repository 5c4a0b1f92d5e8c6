"""A small network for speech: spectra grouped into bands at once, recurrent over time and over bands."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.networks.layers import NoiseEmbedding, zeroed
from hiss.types import Condition, State

_BLIND = 0.3
"""Share of the training examples in which a network that can look ahead must do without."""


@dataclass(frozen=True)
class BandsConfig(NetworkConfig, name="bands"):
    """Sizes of a band network. The default fits spectra of 257 bins, 31 Hz apart."""

    bands: tuple[tuple[int, int], ...] = ((16, 1), (8, 2), (8, 4), (8, 8), (8, 16))
    """(how many bands, how many bins each) from the lowest up: here eight an octave above 500 Hz, as the ear groups
    them. The last bin, at half the sample rate, may be left out."""
    width: int = 32
    """Features of a band."""
    fold: int = 2
    """Neighbouring bands that the recurrent part sees as one."""
    channels: int = 48
    """Features of folded bands."""
    blocks: int = 3
    """Recurrent blocks."""
    taps: int = 3
    """Frames, the current and those before, that the masks of the output look at."""
    ahead: bool = False
    """Whether each block also runs along the frames from the last to the first, with half as many features, where it
    is given them all. In training some examples go without, so that the same weights serve streams, which cannot."""
    upper: int = 0
    """How many of the highest bands hear those below without being heard by them. The others work as they would alone,
    so a network for a high sample rate can hold one for a lower, weight for weight."""
    embedding: int = 128
    """Features of the noise embedding."""

    def __post_init__(self) -> None:
        numbers = [number for pair in self.bands for number in pair]
        sizes = (self.width, self.fold, self.channels, self.blocks, self.taps, self.embedding, *numbers)
        if not numbers or min(sizes) < 1 or self.count % self.fold or self.channels % 2:
            raise UsageError(
                "the sizes of a band network must be at least 1, its bands a multiple of fold and its channels even, "
                f"not {self.count} bands, fold {self.fold} and {self.channels} channels"
            )
        if not 0 <= self.upper < self.count or self.upper % self.fold:
            raise UsageError(
                f"upper must be a multiple of fold, {self.fold}, below the {self.count} bands, not {self.upper}"
            )

    @property
    def count(self) -> int:
        """How many bands there are."""
        return sum(count for count, _ in self.bands)

    def build(self, ports: Ports) -> "Bands":
        return Bands(self, ports)


class Split(nn.Module):
    """Bins to bands: [rows, bins, inputs] -> [bands, rows, outputs], each band by a matrix of its own."""

    def __init__(self, bands: tuple[tuple[int, int], ...], inputs: int, outputs: int) -> None:
        super().__init__()
        self.bands = bands
        self.weights = nn.ParameterList(
            torch.randn(count, size * inputs, outputs) / math.sqrt(size * inputs) for count, size in bands
        )
        self.biases = nn.ParameterList(torch.zeros(count, outputs) for count, _ in bands)

    def forward(self, x: Tensor) -> Tensor:
        parts, start = [], 0
        for (count, size), weight, bias in zip(self.bands, self.weights, self.biases, strict=True):
            part = x[:, start : start + count * size].reshape(len(x), count, -1).transpose(0, 1)
            parts.append(torch.baddbmm(bias[:, None], part, weight))
            start += count * size
        return torch.cat(parts)


class Join(nn.Module):
    """Bands to bins: [bands, rows, inputs] -> [rows, bins, outputs], each band by a matrix that is zero at first."""

    def __init__(self, bands: tuple[tuple[int, int], ...], inputs: int, outputs: int) -> None:
        super().__init__()
        self.bands, self.outputs = bands, outputs
        self.weights = nn.ParameterList(torch.zeros(count, inputs, size * outputs) for count, size in bands)
        self.biases = nn.ParameterList(torch.zeros(count, size * outputs) for count, size in bands)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        groups = x.split([count for count, _ in self.bands])
        for group, weight, bias in zip(groups, self.weights, self.biases, strict=True):
            part = torch.baddbmm(bias[:, None], group, weight).transpose(0, 1)
            parts.append(part.reshape(len(part), -1, self.outputs))
        return torch.cat(parts, dim=1)


class Modulation(nn.Module):
    """Layer normalization of [bands, frames, batch, channels], scaled and shifted by the noise embedding (FiLM)."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.channels = channels
        self.film = zeroed(nn.Linear(embedding, 2 * channels))

    def told(self, embedding: Tensor) -> Tensor:
        """Returns the scale and the shift [2, batch, channels] for a noise embedding."""
        scale, shift = self.film(embedding).chunk(2, dim=-1)
        return torch.stack([1 + scale, shift])

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = told.unbind()
        return torch.addcmul(shift, functional.layer_norm(x, (self.channels,)), scale)


class Block(nn.Module):
    """Two recurrent layers that add to [bands, frames, batch, channels]: one along the frames, one along the bands.

    LSTMs, because torch has fused kernels for them on CPUs and none for GRUs, which are smaller but slower.
    What is added is zero at first, so a network with one block more goes on where one without it stands, and so does
    one that learns to look ahead.
    Source: Luo, Chen, Yoshioka 2020, "Dual-path RNN", figure 1.
    """

    def __init__(self, channels: int, embedding: int, *, ahead: bool, upper: int) -> None:
        """`upper` is how many of the highest bands those below do not hear."""
        super().__init__()
        self.upper = upper
        self.enter_frames = Modulation(channels, embedding)
        self.frames = nn.LSTM(channels, channels)
        self.leave_frames = zeroed(nn.Linear(channels, channels))
        if ahead:
            self.frames_back = nn.LSTM(channels, channels // 2)
            self.leave_frames_back = zeroed(nn.Linear(channels // 2, channels))
        self.enter_bands = Modulation(channels, embedding)
        self.bands = nn.LSTM(channels, channels // 2, bidirectional=True)
        self.leave_bands = zeroed(nn.Linear(channels, channels))

    def forward(
        self,
        x: Tensor,
        told: State,
        state: State | None,
        seeing: Tensor | None,
        later: int,
        backwards: Tensor | None,
    ) -> tuple[Tensor, State]:
        """Returns x plus what the layers say, and the state of the layer along the frames before the last `later`.

        `told` is for each modulation. `seeing` [batch] is what the layer from the last frame to the first is multiplied
        by, if there is any; `backwards` [frames, batch] is the order in which it takes them, where that is another.
        """
        bands, frames, batch, channels = x.shape
        inputs = self.enter_frames(x, told[0]).transpose(0, 1).reshape(frames, -1, channels)
        recurrent, state = self._recurrent(inputs[: frames - later], state)
        if later:
            recurrent = torch.cat([recurrent, self._recurrent(inputs[frames - later :], state)[0]])
        along = self.leave_frames(recurrent).reshape(frames, bands, batch, channels)
        if seeing is not None:
            order = None if backwards is None else backwards.repeat(1, bands)
            back = self.leave_frames_back(_turned(self.frames_back(_turned(inputs, order))[0], order))
            along = along + seeing[:, None] * back.reshape(along.shape)
        x = x + along.transpose(0, 1)
        across = self.leave_bands(self._across(self.enter_bands(x, told[1]).reshape(bands, -1, channels)))
        return x + across.reshape(x.shape), state

    def _across(self, inputs: Tensor) -> Tensor:
        if not self.upper:
            made: Tensor = self.bands(inputs)[0]
            return made
        # Upwards it goes over all of them; downwards it begins anew at the highest of the lower ones.
        up, down = self.bands.all_weights
        highest = inputs.flip(0)
        parts = (highest[self.upper :], highest[: self.upper])
        downwards = torch.cat([_lstm(part, *down).flip(0) for part in parts])
        return torch.cat([_lstm(inputs, *up), downwards], dim=-1)

    def _recurrent(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        if len(inputs) > 1 or not state:
            made, state = self.frames(inputs, state)
            return made, state
        # In a stream frames come one by one, and for a single one the kernel of a sequence takes twice as long.
        hidden, cell = torch.lstm_cell(inputs[0], [part[0] for part in state], *self.frames.all_weights[0])
        return hidden[None], (hidden[None], cell[None])


def _turned(frames: Tensor, order: Tensor | None) -> Tensor:
    """Returns frames [frames, rows, channels] from the last to the first, or in another order [frames, rows]."""
    return frames.flip(0) if order is None else frames.gather(0, order[..., None].expand_as(frames))


def _backwards(frames: int, ends: Tensor) -> Tensor:
    """Returns the places [frames, batch] of so many frames, the first `ends` [batch] from the last to the first."""
    places = torch.arange(frames, device=ends.device)[:, None]
    return torch.where(places < ends, ends - 1 - places, places)


def _lstm(inputs: Tensor, *weights: Tensor) -> Tensor:
    """Returns what one direction of an LSTM makes of [steps, rows, inputs], from no state."""
    none = inputs.new_zeros(1, inputs.shape[1], weights[1].shape[1])
    made: Tensor = torch.lstm(inputs, [none, none], weights, True, 1, 0.0, False, False, False)[0]
    return made


class Bands(Network):
    """F(x, noise, condition) on complex spectra, whose channels are real and imaginary parts in turn.

    The output is a sum over x and the signal, each through complex masks on the last `taps` frames (a deep filter),
    and of a spectrum of its own. The masks are made in folded bands, and from a shortcut around these.
    Source: Luo, Yu 2023, "Music Source Separation with Band-split RNN", section 2, for the bands and the recurrence;
    Mack, Habets 2020, "Deep Filtering", equation 3, for the masks; Yu et al. 2021, "Dual-mode ASR", section 3, for one
    set of weights that looks ahead and streams.
    """

    framewise = True

    def __init__(self, config: BandsConfig, ports: Ports) -> None:
        super().__init__()
        if ports.dims != 2 or ports.channels % 2 or ports.signal % 2:
            raise UsageError("bands works on complex spectra, such as those of the stft representation")
        grouped = sum(count * size for count, size in config.bands)
        if ports.bins - grouped not in (0, 1):
            raise UsageError(f"the bands hold {grouped} bins together, but the spectra have {ports.bins}")
        self.config: BandsConfig = config
        self.ahead = config.ahead
        self.ports = ports
        sources, self.made = (ports.channels + ports.signal) // 2, ports.channels // 2
        width, embedding = config.width, config.embedding
        self.embedding = NoiseEmbedding(embedding, ports.vector)
        self.split = Split(config.bands, 3 * sources, width)
        self.down = nn.Linear(config.fold * width, config.channels)
        self.blocks = nn.ModuleList(
            Block(config.channels, embedding, ahead=config.ahead, upper=config.upper // config.fold)
            for _ in range(config.blocks)
        )
        self.up = nn.Linear(config.channels, config.fold * width)
        self.enter_fine = Modulation(2 * width, embedding)
        self.fine = nn.Linear(2 * width, width)
        self.join = Join(config.bands, width, 2 * self.made * (sources * config.taps + 1))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        return self.piece(x, self.told(noise, condition), condition, ahead=0)[0]

    def told(self, noise: Tensor, condition: Condition) -> State:
        embedding = self.embedding(noise, condition.vector)
        # In the order in which they were built: two of each block, then that of the fine features.
        return tuple(part.told(embedding) for part in self.modules() if isinstance(part, Modulation))

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
        if x.shape[2] != self.ports.bins:
            raise UsageError(f"this network was built for spectra of {self.ports.bins} bins, not {x.shape[2]}")
        later = ahead or 0
        seeing = x.new_ones(len(x)) if self.ahead and ahead is not None else None
        if seeing is not None and self.training:
            seeing = (torch.rand_like(seeing) >= _BLIND).to(x.dtype)
        signal = condition.signal if self.ports.signal else None
        both = x if signal is None else torch.cat([x, signal], dim=1)
        sources = both.unflatten(1, (-1, 2)).permute(4, 0, 3, 1, 2)  # [frames, batch, bins, sources, 2]

        real, imaginary = sources.unbind(-1)
        magnitude = (real.square() + imaginary.square() + 1e-12).sqrt()
        bands = self.split(torch.stack([real, imaginary, magnitude], dim=-1).flatten(-2).flatten(0, 1))
        bands = bands.unflatten(1, sources.shape[:2])
        fold = self.config.fold
        hidden = self.down(bands.unflatten(0, (-1, fold)).movedim(1, 3).flatten(3))
        backwards = None if ends is None else _backwards(x.shape[-1], ends.to(x.device).clamp(max=x.shape[-1]))
        after: State = ()
        for number, block in enumerate(self.blocks):
            own = None if state is None else state[1 + 2 * number : 3 + 2 * number]
            hidden, own = block(hidden, told[2 * number : 2 * number + 2], own, seeing, later, backwards)
            after += own
        unfolded = self.up(hidden).unflatten(-1, (fold, -1)).movedim(3, 1).flatten(0, 1)
        fine = functional.silu(self.fine(self.enter_fine(torch.cat([bands, unfolded], dim=-1), told[-1])))
        weights = self.join(fine.flatten(1, 2)).unflatten(0, sources.shape[:2])
        grouped = sources[:, :, : weights.shape[2]]
        past = grouped.new_zeros(self.config.taps - 1, *grouped.shape[1:]) if state is None else state[0]
        heard = torch.cat([past, grouped])
        made = self._filtered(heard, weights)
        made = functional.pad(made, (0, 0, 0, self.ports.bins - made.shape[2]))
        # The last frames that the next piece will not hear again, then the state of each block.
        return made, (heard[len(sources) - later :][: len(past)], *after)

    def _filtered(self, heard: Tensor, weights: Tensor) -> Tensor:
        """Returns [batch, channels, bins, frames] of what is heard and what the last layer says of each of its bins.

        The frames heard begin `taps` - 1 before those of the weights.
        """
        frames, taps = len(weights), self.config.taps
        delayed = torch.cat([heard[taps - 1 - tap :][:frames] for tap in range(taps)], dim=-2)
        real, imaginary = delayed[..., None, :, :].unbind(-1)
        weights = weights.unflatten(-1, (self.made, -1, 2))
        masks, own = weights[..., :-1, :], weights[..., -1, :]
        of_real, of_imaginary = masks.unbind(-1)
        made = torch.stack(
            [
                (of_real * real - of_imaginary * imaginary).sum(dim=-1),
                (of_real * imaginary + of_imaginary * real).sum(dim=-1),
            ],
            dim=-1,
        )
        return (made + own).permute(1, 3, 4, 2, 0).flatten(1, 2)
