"""Weights of 8 and 16 bits come back nearly as they were, and in the files that they belong to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hiss
from hiss.config import ModelConfig, SamplingConfig
from hiss.errors import HissError
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations.waveform import WaveformConfig
from hiss.rounding import restored, rounded


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    config = ModelConfig(
        sample_rate=1000,
        seconds=0.2,
        representation=WaveformConfig(),
        network=UNetConfig(channels=(32, 32), patch=8, factors=(2,), attention=(False, False), embedding=32),
        sampling=SamplingConfig(steps=4),
    )
    model = AudioDiffusionModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=seeded(parameter.numel()))
    return Pipeline(model)


def weights() -> dict[str, torch.Tensor]:
    drawn = torch.randn(32, 16, 3, generator=torch.Generator().manual_seed(0))
    return {
        "kernel": drawn * torch.logspace(-6, 3, 32)[:, None, None],
        "bias": torch.linspace(-2, 2, 2000),
        "small": torch.randn(2, 2),
        "count": torch.tensor(7),
        "on": torch.tensor(True),
    }


def test_each_row_is_exact_to_half_a_step_of_its_largest_number() -> None:
    before = weights()
    stored = rounded(before, 8, learned=before)
    assert stored["kernel"].dtype == torch.int8
    assert int(stored["kernel"].abs().amax()) == 127
    assert stored["bias"].dtype == stored["small"].dtype == torch.float16
    after = restored(stored)
    assert after.keys() == before.keys()
    step = before["kernel"].abs().amax(dim=(1, 2), keepdim=True) / 127
    assert bool(((after["kernel"] - before["kernel"]).abs() <= 0.501 * step).all())
    assert torch.equal(after["count"], before["count"])
    assert after["on"].dtype == torch.bool


def test_what_was_measured_keeps_16_bits() -> None:
    assert rounded({"scale": torch.rand(2, 1024, 1)}, 8, learned=())["scale"].dtype == torch.float16


def test_other_numbers_of_bits_are_those_of_floating_point() -> None:
    before = weights()
    assert {tensor.dtype for tensor in rounded(before, 16, learned=before).values()} == {
        torch.float16,
        torch.int64,
        torch.bool,
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in rounded(before, 32, learned=before).items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in restored(before).items())


def test_a_row_of_zeros_stays_one() -> None:
    assert not bool(restored(rounded({"kernel": torch.zeros(64, 64)}, 8, learned={"kernel"}))["kernel"].any())


def test_a_model_of_8_bits_is_a_quarter_as_large_and_sounds_alike(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "32", bits=32)
    pipeline.save_pretrained(tmp_path / "8", bits=8)
    before, after = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("32", "8"))
    assert after < 0.5 * before
    sounds = [hiss.load(tmp_path / name).generate(seed=0).samples for name in ("32", "8")]
    assert torch.allclose(sounds[0], sounds[1], atol=0.05 * float(sounds[0].abs().max()))
    assert not torch.equal(sounds[0], sounds[1])


def test_a_weight_without_its_scales_is_told(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, bits=8)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    name = next(name for name in stored if name.endswith(":scale"))
    save_file({key: tensor for key, tensor in stored.items() if key != name}, path)
    with pytest.raises(HissError, match=r"does not fit its config\.json: 1 weights differ"):
        hiss.load(tmp_path)
