"""Training a CLAP on captioned recordings: it finds what belongs together, and a stopped run goes on."""

from pathlib import Path

import pytest
import torch

from hiss.audio import Audio
from hiss.clap import AudioTowerConfig, ClapConfig, TextTowerConfig, read_clap
from hiss.data import Dataset
from hiss.data.folder import AudioFolder
from hiss.evaluation.train_clap import measure, train_clap
from hiss.training import TrainerConfig

CONFIG = ClapConfig(
    audio=AudioTowerConfig(
        sample_rate=8000, n_fft=512, hop=128, bins=32, image=32, patch=4, width=8, depths=(1, 1), heads=(2, 2)
    ),
    text=TextTowerConfig(tokens=300, width=16, layers=1, heads=2),
    features=16,
)
TRAINER = TrainerConfig(steps=80, batch_size=8, learning_rate=3e-3, warmup=2, ema=(0.1,), save_every=20)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Tones of four pitches with a text file beside each."""
    folder = tmp_path / "tones"
    folder.mkdir()
    time = torch.arange(4000) / 8000
    for index in range(16):
        word, hertz = [("low", 200), ("middle", 600), ("high", 1500), ("shrill", 3000)][index % 4]
        Audio(0.5 * torch.sin(2 * torch.pi * (hertz + index) * time), 8000).save(folder / f"{index}.wav")
        (folder / f"{index}.txt").write_text(f"a {word} tone")
    return AudioFolder(path=str(folder)).open(sample_rate=8000, channels=1, samples=CONFIG.audio.samples, split="all")


def test_a_trained_clap_finds_what_belongs_together(data: Dataset, tmp_path: Path) -> None:
    clap = train_clap(CONFIG, TRAINER, data, tmp_path / "run")
    assert clap.config.text.vocabulary.words == ("a", "high", "low", "middle", "shrill", "tone")
    found = measure(clap, data)
    assert set(found) == {f"{way}@{count}" for way in ("text to audio", "audio to text") for count in (1, 5, 10)}
    assert found["text to audio@1"] == 1
    again = read_clap(tmp_path / "run" / "model")
    assert torch.equal(again.embed_texts(["a low tone"]), clap.embed_texts(["a low tone"]))


def test_a_run_that_has_ended_is_not_begun_anew(data: Dataset, tmp_path: Path) -> None:
    short = TrainerConfig(steps=3, batch_size=4)
    first, second = (train_clap(CONFIG, short, data, tmp_path / "run") for _ in range(2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
