"""The released GPT-2, or any other in the same form, as the text tower of CLAP."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from hiss.clap.towers import TextTowerConfig, transformers_package
from hiss.clap.vocabulary import Vocabulary
from hiss.errors import HissError, UsageError


def read_released(config: TextTowerConfig, *, words: Sequence[str]) -> tuple[TextTowerConfig, dict[str, Tensor]]:
    """Returns the text tower that `config.released` makes, which needs it no more, and the weights of its GPT-2.

    Args:
        config: its `length` and dropout are kept, as far as the released model has positions.
        words: those of the captions, for the vocabulary.

    Raises:
        UsageError: what is there is no GPT-2.
        HissError: it cannot be read, or the package transformers is missing.
    """
    transformers = transformers_package()
    source = str(config.released)
    try:
        found = transformers.AutoConfig.from_pretrained(source)
        if found.model_type != "gpt2":
            raise UsageError(f"the text tower needs a GPT-2, and {source} is a {found.model_type}")
        weights = transformers.GPT2Model.from_pretrained(source, use_safetensors=True).state_dict()
        merges = Path(transformers.utils.cached_file(source, "merges.txt")).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise HissError(f"cannot read the GPT-2 in {source}: {' '.join(str(error).split())}") from error
    merges = [line for line in merges if line and not line.startswith("#version")]
    vocabulary = Vocabulary(tuple(merges), tuple(words), lowercase=False)
    if vocabulary.size != found.vocab_size:
        raise UsageError(f"{source} has {found.vocab_size} tokens, and its merges.txt makes {vocabulary.size}")
    length = min(config.length, found.n_positions)
    weights["wpe.weight"] = weights["wpe.weight"][:length]
    sizes = {"width": found.n_embd, "layers": found.n_layer, "heads": found.n_head}
    return replace(config, released=None, vocabulary=vocabulary, length=length, **sizes), weights
