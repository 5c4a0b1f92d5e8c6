"""An independent listener: a small classifier whose opinion of a clip no generator was trained on."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from hiss.audio import replacing
from hiss.errors import HissError, unknown
from hiss.signal.mel import log_mel
from hiss.spec import Spec

JUDGES = Path(__file__).parent / "judges"
"""Where the judges that come with the package are: one folder each."""


@dataclass(frozen=True)
class JudgeConfig(Spec):
    """What a judge hears and what it tells apart."""

    heads: Mapping[str, tuple[str, ...]]
    """Names of the classes by question, such as {"digit": ("0", "1", ...)}."""
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of what may be there together, by question, such as {"pitch": ("C", "C#", ...)}: any number of them."""
    sample_rate: int = 8000
    """Hz."""
    samples: int = 8000
    """What is judged of a clip: shorter ones are followed by silence, of longer ones the loudest part is taken."""
    n_fft: int = 256
    hop: int = 80
    bins: int = 40
    """Mel bands."""
    low: float = 60.0
    """Hz, where the first band begins."""
    floor: float = 1e-3
    """The smallest mel magnitude, in a clip of RMS 1, that is told from silence."""
    channels: tuple[int, ...] = (24, 48, 96, 128)
    """Of the convolutions; the resolution is halved after each but the last."""
    features: int = 64
    """Of the embedding."""
    dropout: float = 0.2

    @property
    def seconds(self) -> float:
        """Seconds of a clip that are judged."""
        return self.samples / self.sample_rate


class Judge(nn.Module):
    """Log-mel, convolutions, pooling over time, a linear embedding, and one linear layer per question.

    The level of a clip makes no difference: it is divided by its RMS first.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for before, after in zip((1, *config.channels), config.channels, strict=False):
            if layers:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        pooled = 2 * config.channels[-1] * (config.bins // 2 ** (len(config.channels) - 1))
        self.embedding = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(pooled, config.features))
        self.heads = nn.ModuleDict({name: nn.Linear(config.features, len(c)) for name, c in config.heads.items()})
        self.tags = nn.ModuleDict({name: nn.Linear(config.features, len(c)) for name, c in config.tags.items()})

    def spectrum(self, audio: Tensor) -> Tensor:
        """Returns the log-mel [batch, bins, frames] of audio [batch, samples], about 0 to 1; silence is 0."""
        config = self.config
        audio = _loudest(functional.pad(audio, (0, max(0, config.samples - audio.shape[-1]))), config.samples)
        rms = audio.square().mean(dim=-1, keepdim=True).sqrt()
        mel = log_mel(
            audio / rms.clamp(min=1e-7),
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            hop=config.hop,
            bins=config.bins,
            low=config.low,
            floor=config.floor,
        )
        return 1 - mel / math.log(config.floor)

    def encode(self, spectrum: Tensor) -> Tensor:
        """Returns the embedding [batch, features] of what `spectrum` returned."""
        maps = self.convolutions(spectrum[:, None])
        pooled = torch.cat([maps.mean(dim=-1), maps.amax(dim=-1)], dim=1)
        return self.embedding(pooled.flatten(1))  # type: ignore[no-any-return]

    def embed(self, audio: Tensor) -> Tensor:
        """Returns the embedding [batch, features] of audio [batch, samples] at the judge's sample rate."""
        return self.encode(self.spectrum(audio))

    def logits(self, embedding: Tensor) -> dict[str, Tensor]:
        """Returns the unnormalised log-probabilities [batch, classes] by question."""
        return {name: head(embedding) for name, head in self.heads.items()}

    def odds(self, embedding: Tensor) -> dict[str, Tensor]:
        """Returns the logarithm of the odds [batch, tags] of each tag by question."""
        return {name: layer(embedding) for name, layer in self.tags.items()}

    def classify(self, audio: Tensor) -> dict[str, Tensor]:
        """Returns the probabilities [batch, classes] by question, of audio [batch, samples]."""
        return {name: logits.softmax(dim=-1) for name, logits in self.logits(self.embed(audio)).items()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model.safetensors (float16, which is plenty for a judge) and config.json, each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: value.half() if value.is_floating_point() else value for name, value in self.state_dict().items()
        }
        for name, content in (("model.safetensors", save(state)), ("config.json", self.config.to_json().encode())):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path = "digits") -> Self:
        """Returns a judge, ready to judge, that comes with the package or lies in a folder.

        Raises:
            UsageError: there is neither a judge of that name nor such a folder.
            HissError: the folder holds no readable judge.
        """
        folder = JUDGES / name_or_folder if (JUDGES / name_or_folder).is_dir() else Path(name_or_folder)
        if not folder.is_dir():
            raise unknown("judge", str(name_or_folder), (path.name for path in JUDGES.iterdir() if path.is_dir()))
        try:
            judge = cls(JudgeConfig.from_dict(json.loads((folder / "config.json").read_text())))
            judge.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise HissError(f"{folder} holds no readable judge: {error}") from error
        return judge.eval().requires_grad_(False)


def _loudest(audio: Tensor, samples: int) -> Tensor:
    """Returns the part [batch, samples] of each recording that has the most energy."""
    energy = functional.pad(audio.double().square().cumsum(dim=-1), (1, 0))
    start = (energy[:, samples:] - energy[:, :-samples]).argmax(dim=-1, keepdim=True)
    return audio.gather(-1, start + torch.arange(samples, device=audio.device))
