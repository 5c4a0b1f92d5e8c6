"""What CLAP is made of: HTS-AT hears, GPT-2 reads, and projections lead from both into one space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.clap.vocabulary import Tokenizer, Vocabulary
from hiss.errors import MissingPackageError, UsageError
from hiss.signal.mel import log_mel
from hiss.spec import Spec


@dataclass(frozen=True)
class AudioTowerConfig(Spec):
    """HTS-AT and the log-mel spectrum that it looks at as a square image.

    The defaults hear 3 s at 16 kHz and are small. The size that is known from the literature, here for 10 s at 16 kHz:
    `n_fft=1024, hop=160, bins=64, low=50, image=256, patch=4, window=8, width=96, depths=(2, 2, 6, 2),
    heads=(4, 8, 16, 32)`.
    """

    sample_rate: int = 16000
    """Hz."""
    n_fft: int = 2048
    hop: int = 384
    """Samples from one frame to the next; with `image` and `bins` it decides how many seconds are heard at once."""
    bins: int = 128
    """Mel bands."""
    low: float = 30.0
    """Hz, where the first band begins."""
    high: float | None = None
    """Hz, where the last band ends; half of the sample rate where left out."""
    floor: float = 1e-5
    """The smallest mel magnitude that is told from silence."""
    image: int = 128
    """Side of the image: `image / bins` stretches of the spectrum lie in it, one above the other."""
    patch: int = 8
    """Side of a patch of the image, in pixels: what becomes one token."""
    window: int = 4
    """Side of the windows in which tokens attend to each other."""
    width: int = 48
    """Features of a token in the first stage; each further stage has twice as many, on half the side."""
    depths: tuple[int, ...] = (2, 2, 2)
    """Blocks of each stage."""
    heads: tuple[int, ...] = (3, 6, 12)
    """Attention heads of each stage."""
    dropout: float = 0.1
    drop_path: float = 0.1
    """How often the last block is skipped in training, the blocks before it linearly less often."""

    def __post_init__(self) -> None:
        stages = len(self.depths)
        if not stages or stages != len(self.heads):
            raise UsageError(f"HTS-AT needs as many heads as depths, not {len(self.heads)} for {stages}")
        if self.image % self.bins:
            raise UsageError(f"an image of {self.image} pixels must hold {self.bins} mel bands a whole number of times")
        last, rest = divmod(self.image, self.patch * 2 ** (stages - 1))
        if rest or last % self.window or last < self.image // self.bins:
            raise UsageError(
                f"an image of {self.image} pixels has {self.image / self.patch / 2 ** (stages - 1):g} tokens on a side "
                f"after {stages} stages, which must be a multiple of the window, {self.window}"
            )
        for heads, features in zip(self.heads, (self.width * 2**stage for stage in range(stages)), strict=True):
            if features % heads:
                raise UsageError(f"{features} features of HTS-AT cannot be shared out to {heads} heads")

    @property
    def frames(self) -> int:
        """Of the spectrum that fills the image."""
        return self.image**2 // self.bins

    @property
    def samples(self) -> int:
        """How much is heard at once."""
        return (self.frames - 1) * self.hop

    @property
    def features(self) -> int:
        """Of what the tower gives."""
        return int(self.width * 2 ** (len(self.depths) - 1))


class AudioTower(nn.Module):
    """Log-mel spectrum and HTS-AT, a Swin transformer on patches of it, with the mean over all of its last tokens.

    Source: Chen et al. 2022, "HTS-AT: a hierarchical token-semantic audio transformer", section 2.1.
    """

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.config = config
        transformers = transformers_package()
        self.htsat = transformers.ClapAudioModel(
            transformers.ClapAudioConfig(
                num_mel_bins=config.bins,
                spec_size=config.image,
                patch_size=config.patch,
                patch_stride=[config.patch, config.patch],
                window_size=config.window,
                patch_embeds_hidden_size=config.width,
                hidden_size=config.features,
                depths=list(config.depths),
                num_attention_heads=list(config.heads),
                hidden_dropout_prob=config.dropout,
                drop_path_rate=config.drop_path,
            )
        )

    def forward(self, audio: Tensor) -> Tensor:
        """Returns what is heard [batch, features] in mono audio [batch, config.samples]."""
        config = self.config
        mel = log_mel(
            audio.float(),
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            hop=config.hop,
            bins=config.bins,
            low=config.low,
            high=config.high,
            floor=config.floor,
        )
        heard: Tensor = self.htsat(mel.transpose(1, 2)[:, None]).pooler_output
        return heard


@dataclass(frozen=True)
class TextTowerConfig(Spec):
    """GPT-2 and the vocabulary that it reads.

    The defaults are small. The released GPT-2 is `width=768, layers=12, heads=12`; `released` brings its weights, its
    vocabulary and its sizes.
    """

    vocabulary: Vocabulary = Vocabulary()
    """Learned from the captions when a CLAP is begun, see `begin`."""
    tokens: int = 1024
    """Size, at most, of the vocabulary that is learned."""
    released: str | None = None
    """Folder or hub name of a GPT-2 to begin with, in place of random weights and a vocabulary of our own."""
    length: int = 77
    """Tokens, at most, that are read of a text, its end included."""
    width: int = 256
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    frozen: bool = False
    """Whether training leaves GPT-2 as it is, and changes its projection only."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise UsageError(f"a text has at least a token and its end: length must be 2 or more, not {self.length}")
        if self.width % self.heads:
            raise UsageError(f"{self.width} features of GPT-2 cannot be shared out to {self.heads} heads")


class TextTower(nn.Module):
    """A tokenizer and GPT-2, whose state at the end of a text has seen all of it.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners".
    """

    place: Tensor

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.vocabulary)
        transformers = transformers_package()
        self.gpt2 = transformers.GPT2Model(
            transformers.GPT2Config(
                vocab_size=config.vocabulary.size,
                n_positions=config.length,
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                resid_pdrop=config.dropout,
                embd_pdrop=config.dropout,
                attn_pdrop=config.dropout,
                bos_token_id=config.vocabulary.end,
                eos_token_id=config.vocabulary.end,
                use_cache=False,
            )
        )
        self.gpt2.requires_grad_(not config.frozen)
        self.register_buffer("place", torch.empty(0), persistent=False)  # knows the device

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns the states [batch, tokens, width] of texts, and where a token is real, [batch, tokens].

        What stands behind `config.length` tokens is not read.
        """
        end = self.config.vocabulary.end
        numbers = [[*self.tokenizer.encode(text)[: self.config.length - 1], end] for text in texts]
        size = max(map(len, numbers))
        filled = torch.tensor([[*row, *[end] * (size - len(row))] for row in numbers], device=self.place.device)
        mask = torch.arange(size) < torch.tensor([[len(row)] for row in numbers])
        # In GPT-2 nothing depends on what follows, so that the filling needs no mask in there.
        states: Tensor = self.gpt2(input_ids=filled).last_hidden_state
        return states, mask.to(self.place.device)


class Projection(nn.Module):
    """A linear map into the joint space, refined by a residual layer, and normalised.

    Source: Elizalde et al. 2023, "CLAP: learning audio concepts from natural language supervision", section 2.
    """

    def __init__(self, inputs: int, features: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, features, bias=False)
        self.refine = nn.Sequential(nn.GELU(), nn.Linear(features, features, bias=False), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Returns vectors of length 1, [batch, features], for [batch, inputs]."""
        entered = self.enter(x)
        return functional.normalize(self.norm(entered + self.refine(entered)).float(), dim=-1)


def transformers_package() -> Any:
    """Returns the package transformers.

    Raises:
        MissingPackageError: it is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError(
            f"CLAP needs transformers ({error}); install it with: pip install 'hiss[text]'"
        ) from error
    return transformers
