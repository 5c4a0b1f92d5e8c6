"""The notes that a text names, as a condition: a tone whose spectrum says which they are."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.conditioners.notes import NotesConfig
from hiss.config import ModelConfig
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNet, UNetConfig
from hiss.representations.waveform import WaveformConfig
from hiss.types import Batch, Prompt

RATE = 4000


def tone(*texts: str | None) -> Tensor:
    """Returns what is played for each text, [texts, 1, samples]."""
    signal: Tensor | None = NotesConfig(sample_rate=RATE).build()([Prompt(text=text) for text in texts]).signal
    assert signal is not None
    return signal


@pytest.mark.parametrize(
    ("text", "pitches"),
    [
        ("a church organ holds a low C major chord", {0}),
        ("a flute plays two notes, E flat and then B, going up", {3, 11}),
        ("a high D flat note on a recorder, then C sharp", {1}),
        ("an oboe plays A", {9}),
    ],
)
def test_each_pitch_class_that_a_text_names_sounds_in_all_octaves_and_nothing_else_does(
    text: str, pitches: set[int]
) -> None:
    (played,) = tone(text)
    power = torch.fft.rfft(played[0].double()).abs().square() / len(played[0]) ** 2 * 2
    heard = power > 1e-6 * power.max()
    hz = torch.arange(len(power)) * RATE / len(played[0])
    semitones = 12 * torch.log2(hz[heard] / 440) + 69
    assert set((semitones.round() % 12).int().tolist()) == pitches
    assert heard.sum() == len(pitches) * 6  # from C1 up there are six below 2 kHz, of C to B alike
    assert (semitones - semitones.round()).abs().max() < 0.07
    assert power[heard].sum() == pytest.approx(0.01, rel=1e-3)


def test_without_a_note_there_is_silence() -> None:
    assert not tone("A snare drum roll", "", None).any()


def test_one_prompt_does_not_change_what_another_means() -> None:
    together = tone("a flute plays C", "", "a flute plays D")
    assert torch.equal(together[:1], tone("a flute plays C"))
    assert torch.equal(together[2:], tone("a flute plays D"))


def model() -> AudioDiffusionModel:
    network = UNetConfig(channels=(8, 8), factors=(2,), attention=(False, False), patch=8)
    config = ModelConfig(RATE, 0.5, WaveformConfig(), network, conditioners=(NotesConfig(sample_rate=RATE),))
    return AudioDiffusionModel(config).eval()


def test_a_model_hears_the_tone_for_as_long_as_its_sound_lasts() -> None:
    seconds = 9
    condition, level = model().condition([Prompt(text="a flute plays C"), Prompt()], seconds * RATE)
    assert condition.signal is not None
    assert condition.signal.shape == (2, 1, seconds * RATE)
    (once,) = tone("a flute plays C")
    assert torch.equal(condition.signal[0], once.repeat(1, 3)[:, : seconds * RATE])
    assert not condition.signal[1].any()
    assert (level == 1).all()


def test_what_is_played_reaches_the_network() -> None:
    with_notes = model()
    network = with_notes.denoiser.network
    assert isinstance(network, UNet)
    audio = torch.randn(2, 1, 2000, generator=torch.Generator().manual_seed(0))
    batch = Batch(audio, RATE, (Prompt(text="a flute plays C"),) * 2, torch.full((2,), 2000))
    torch.nn.init.normal_(network.get_parameter("leave.weight"))
    with_notes.compute_loss(batch, generator=torch.Generator().manual_seed(0)).backward()
    weights = network.get_parameter("enter.weight").grad
    assert weights is not None
    assert weights[:, 8:].abs().max() > 0  # those of the second channel, folded eight times


def test_another_sample_rate_is_refused() -> None:
    batch = Batch(torch.zeros(1, 1, 8), 16000, (Prompt(text="C"),), torch.full((1,), 8))
    with pytest.raises(UsageError, match="played at 4000 Hz, and the model makes 16000 Hz"):
        NotesConfig(sample_rate=RATE).build().listen(batch, None)
    with pytest.raises(UsageError, match="1000 Hz or more"):
        replace(NotesConfig(), sample_rate=0)
