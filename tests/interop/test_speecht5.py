"""A vocoder that transformers saved sounds the same here."""

import json
from pathlib import Path

import pytest
import torch

from hiss.errors import HissError, UsageError
from hiss.interop.speecht5 import read_hifigan
from hiss.noise import seeded
from hiss.signal.mel import MelProfile


@pytest.mark.parametrize("normalised", [True, False])
def test_a_saved_vocoder_sounds_as_in_transformers(normalised: bool, tmp_path: Path) -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=12,
                upsample_initial_channel=16,
                upsample_rates=[5, 4],
                upsample_kernel_sizes=[16, 8],
                initializer_range=0.2,
                normalize_before=normalised,
            )
        )
        theirs.mean.copy_(torch.randn(12))
    theirs.save_pretrained(tmp_path)
    ours = read_hifigan(tmp_path)
    assert ours.trained
    mel = torch.randn(2, 12, 9, generator=seeded("mel"))
    with torch.no_grad():
        expected = theirs(mel.transpose(1, 2))[:, :180]
        torch.testing.assert_close(ours(mel), expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(UsageError, match="bins 12, and the mel profile 64"):
        read_hifigan(tmp_path, mel=MelProfile(hop=20))


def test_a_folder_without_a_vocoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HissError, match="holds no vocoder with safetensors"):
        read_hifigan(tmp_path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(HissError, match="holds no SpeechT5HifiGan"):
        read_hifigan(tmp_path)
