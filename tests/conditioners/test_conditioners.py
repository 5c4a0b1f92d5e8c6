"""Every registered conditioner speaks for each prompt of a batch, and for an empty one."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from hiss.clap import AudioTowerConfig, ClapConfig, NoisedClapConfig, TextTowerConfig
from hiss.conditioners import ConditionerConfig, merge, stack
from hiss.conditioners.clap_text import ClapTextConfig
from hiss.conditioners.label import LabelConfig
from hiss.conditioners.notes import NotesConfig
from hiss.conditioners.recording import RecordingConfig
from hiss.conditioners.text import TextConfig
from hiss.conditioners.timing import TimingConfig
from hiss.conditioners.words import WordsConfig
from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.types import Condition, Prompt

CLAP = ClapConfig(
    audio=AudioTowerConfig(image=32, patch=4, bins=32, window=4, width=4, depths=(1, 1), heads=(1, 1)),
    text=TextTowerConfig(length=16, width=8, layers=1, heads=1, dropout=0.0),
    features=8,
)
DIGIT = LabelConfig(field="digit", classes=("0", "1", "2"), features=8)


def reader() -> ClapTextConfig:
    """Returns a text encoder that knows three words and marks where a text begins."""
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "a": 1, "<pad>": 2, "flute": 3, "drum": 4}, unk_token="<s>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    options = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return ClapTextConfig(
        tokenizer=tokenizer.to_str(), options=options | {"vocab_size": 5, "pad_token_id": 2, "projection_dim": 6}
    )


KINDS: dict[str, tuple[ConditionerConfig, Prompt, Prompt]] = {
    "label": (DIGIT, Prompt(labels={"digit": "1"}), Prompt(labels={"digit": "2"})),
    "timing": (TimingConfig(features=8), Prompt(start=1.0, total=9.0), Prompt(start=5.0, total=9.0)),
    "text as a vector": (TextConfig(clap=CLAP, tokens=False), Prompt(text="a flute"), Prompt(text="a drum")),
    "text as tokens": (TextConfig(clap=CLAP, vector=False), Prompt(text="a flute"), Prompt(text="a drum")),
    "text as CLAP reads it": (reader(), Prompt(text="a flute"), Prompt(text="a drum")),
    "notes": (NotesConfig(), Prompt(text="a flute plays C"), Prompt(text="a flute plays D")),
    "words": (
        WordsConfig(NoisedClapConfig(shape=(2,), words=("drum", "flute"), channels=(8,), features=8)),
        Prompt(text="a flute"),
        Prompt(text="a drum"),
    ),
    "recording": (RecordingConfig(), Prompt(recording=torch.ones(1, 9)), Prompt(recording=-torch.ones(1, 7))),
}


def said(condition: Condition) -> Tensor:
    """Returns the one part of a condition that there is."""
    (part,) = [one for one in (condition.vector, condition.tokens, condition.signal) if one is not None]
    return part


def test_every_registered_conditioner_is_tested_here() -> None:
    assert set(ConditionerConfig.members) == {config.name for config, _, _ in KINDS.values()}


@pytest.mark.parametrize(("config", "one", "other"), KINDS.values(), ids=KINDS)
def test_a_conditioner_tells_prompts_and_their_absence_apart(
    config: ConditionerConfig, one: Prompt, other: Prompt
) -> None:
    conditioner = config.build()
    for parameter in conditioner.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    condition = conditioner([one, other, Prompt(), one])
    assert (condition.vector is not None) == bool(conditioner.vector)
    assert (condition.signal is not None) == conditioner.signal
    if condition.vector is not None:
        assert condition.vector.shape == (4, conditioner.vector)
    first, second, absent, again = said(condition)
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, absent)


@pytest.mark.parametrize(("config", "one", "other"), KINDS.values(), ids=KINDS)
def test_the_gradient_reaches_every_weight_of_a_conditioner(
    config: ConditionerConfig, one: Prompt, other: Prompt
) -> None:
    conditioner = config.build()
    heard = said(conditioner([one, other, Prompt()]))
    trained = [parameter for parameter in conditioner.parameters() if parameter.requires_grad]
    if trained:
        heard.sum().backward()
    assert all(parameter.grad is not None for parameter in trained)


def test_recordings_of_different_lengths_are_filled_up_with_silence() -> None:
    signal = said(RecordingConfig().build()([Prompt(recording=torch.ones(1, 3)), Prompt(recording=torch.ones(1, 5))]))
    assert signal.tolist() == [[[1, 1, 1, 0, 0]], [[1, 1, 1, 1, 1]]]
    assert said(RecordingConfig().build()([Prompt(), Prompt()])).shape == (2, 1, 0)


def test_the_level_of_a_recording_is_its_root_mean_square_and_one_without_it() -> None:
    encoded = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    some = Prompt(recording=torch.ones(1, 2))
    level = RecordingConfig().build().level([some, some, Prompt()], encoded)
    assert level.flatten().tolist() == pytest.approx([12.5**0.5, 0.0, 1.0])


def test_a_running_level_forgets_and_never_looks_ahead() -> None:
    recorder = RecordingConfig(memory=5).build()
    encoded = torch.randn(1, 2, 7, 40)
    level = recorder.level([Prompt(recording=torch.ones(1, 1))], encoded)
    assert level.shape == (1, 1, 1, 40)
    power = encoded.square().mean(dim=(1, 2))[0]
    weight = torch.exp(-torch.arange(40) / 5)
    for frame in (0, 1, 17, 39):
        past = power[: frame + 1].flip(0)
        expected = (past * weight[: frame + 1]).sum() / weight[: frame + 1].sum()
        assert float(level[..., frame]) == pytest.approx(float(expected.sqrt()), rel=1e-5)


@pytest.mark.parametrize("piece", [1, 4, 50])
def test_a_running_level_goes_on_from_its_state(piece: int) -> None:
    recorder = RecordingConfig(memory=5).build()
    encoded = torch.randn(2, 2, 3, 50) * torch.linspace(0, 4, 50)
    encoded[1, ..., :20] = 0
    state, parts = None, []
    for some in encoded.split(piece, dim=-1):
        level, state = recorder.running_level(some, state)
        parts.append(level)
    whole = recorder.level([Prompt(recording=torch.zeros(1, 1))] * 2, encoded)
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole)


def test_a_level_can_be_that_of_the_lowest_bins() -> None:
    encoded = torch.randn(1, 2, 7, 10)
    some = [Prompt(recording=torch.ones(1, 1))]
    for memory in (None, 5):
        low = RecordingConfig(memory=memory, bins=3).build().level(some, encoded)
        torch.testing.assert_close(low, RecordingConfig(memory=memory).build().level(some, encoded[:, :, :3]))


def test_a_memory_of_no_frame_and_a_level_of_fewer_bins_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 frame"):
        RecordingConfig(memory=0)
    with pytest.raises(UsageError, match="at least 1 bin"):
        RecordingConfig(bins=-1)


def test_an_unknown_class_is_named_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="unknown digit '7'; valid are: 0, 1, 2"):
        DIGIT.build()([Prompt(labels={"digit": "7"})])


def test_classes_must_be_given_and_differ() -> None:
    with pytest.raises(UsageError, match="different classes"):
        LabelConfig(field="digit", classes=("0", "0"))


def test_an_open_label_is_drawn_evenly_and_by_the_generator_alone() -> None:
    conditioner = LabelConfig(field="speaker", classes=("a", "b"), draw=True).build()
    drawn = [conditioner.complete(Prompt(), seeded(0, item)).labels["speaker"] for item in range(400)]
    assert 150 < drawn.count("a") < 250
    assert drawn == [conditioner.complete(Prompt(), seeded(0, item)).labels["speaker"] for item in range(400)]


def test_a_class_is_drawn_as_often_as_its_share_says() -> None:
    config = LabelConfig(field="ensemble", classes=("piano", "choir", "organ"), draw=True, shares=(3, 1, 0))
    conditioner = config.build()
    drawn = [conditioner.complete(Prompt(), seeded(0, item)).labels["ensemble"] for item in range(400)]
    assert 260 < drawn.count("piano") < 340
    assert drawn.count("organ") == 0


@pytest.mark.parametrize("shares", [(1.0,), (-1.0, 2.0), (0.0, 0.0)])
def test_shares_that_mean_nothing_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="a share of 0 or more for each of its 2 classes"):
        LabelConfig(field="ensemble", classes=("piano", "choir"), draw=True, shares=shares)


def test_what_a_prompt_says_is_never_drawn() -> None:
    asked = Prompt(labels={"digit": "2"})
    assert LabelConfig(field="digit", classes=("0", "2"), draw=True).build().complete(asked, seeded(0)) is asked
    assert DIGIT.build().complete(Prompt(), seeded(0)) == Prompt()


def shape(part: Tensor | None) -> tuple[int, ...] | None:
    return None if part is None else tuple(part.shape)


def test_conditions_merge_side_by_side_and_stack_behind_each_other() -> None:
    a = Condition(vector=torch.ones(2, 3), tokens=torch.ones(2, 4, 5), mask=torch.zeros(2, 4, dtype=torch.bool))
    b = Condition(vector=torch.zeros(2, 1), tokens=torch.zeros(2, 1, 5))
    merged = merge([a, b])
    assert shape(merged.vector) == (2, 4)
    assert shape(merged.tokens) == (2, 5, 5)
    assert merged.mask is not None
    assert merged.mask[0].tolist() == [False] * 4 + [True]
    assert shape(stack([merged, merged]).vector) == (4, 4)
    assert merge([]) == Condition()
