"""Export to ONNX: piece after piece the graph gives what the model gives for the whole."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hiss.conditioners.recording import RecordingConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.diffusion.schedules import Karras
from hiss.errors import HissError, UsageError
from hiss.interop.onnx import export_onnx
from hiss.model import AudioDiffusionModel
from hiss.networks.bands import BandsConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations.stft import StftConfig
from hiss.types import Prompt

NETWORK = BandsConfig(bands=((8, 2), (4, 4)), width=8, channels=16, blocks=2, taps=2, embedding=16)
CONFIG = ModelConfig(
    sample_rate=4000,
    seconds=0.5,
    representation=StftConfig(window=64, hop=32),
    network=NETWORK,
    conditioners=(RecordingConfig(memory=20),),
    sampling=SamplingConfig(schedule=Karras(sigma_max=20.0)),
)


def pipeline(config: ModelConfig = CONFIG) -> Pipeline:
    model = AudioDiffusionModel(config)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    model.representation.get_buffer("scale").fill_(2.5)
    return Pipeline(model)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_graph_gives_what_the_model_gives(frames: int, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    export_onnx(pipeline(), tmp_path / "model.onnx", frames=frames)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    model, samples = pipeline().model, 0.1 * torch.randn(1, 32 * 11, generator=seeded(0))
    samples[:, 96:256] = 0  # frames of digital silence, after sound and before it
    with torch.no_grad():
        condition, level = model.condition([Prompt(recording=samples)], samples.shape[1])
        assert condition.signal is not None
        noise = torch.randn(condition.signal.shape, generator=seeded(1))
        sigma = model.config.sampling.schedule.grid(1)[0]
        whole = model.denoiser(sigma * noise, sigma, condition) * level
        recording = condition.signal * level
    silent = ~recording.flatten(1, -2).any(dim=1)[0]
    assert 1 < int(silent.sum()) < len(silent) - 2
    assert bool(whole[..., silent].any())  # the network makes noise of it
    whole[..., silent] = 0

    state = {one.name: torch.zeros(one.shape).numpy() for one in session.get_inputs()[2:]}
    parts = []
    for heard, drawn in zip(recording.split(frames, dim=-1), noise.split(frames, dim=-1), strict=True):
        clean, *after = session.run(None, {"recording": heard.numpy(), "noise": drawn.numpy(), **state})
        state = dict(zip(state, after, strict=True))
        parts.append(torch.from_numpy(clean))
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole, atol=1e-4, rtol=0)
    described = session.get_modelmeta().custom_metadata_map
    assert described["sample_rate"] == "4000"
    assert float(described["scale"]) == 2.5
    assert StftConfig.from_dict(json.loads(described["representation"])) == CONFIG.representation


def test_a_model_that_needs_a_recording_as_a_whole_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    with pytest.raises(UsageError, match="causal"):
        export_onnx(pipeline(replace(CONFIG, conditioners=(RecordingConfig(),))), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="at least 1 frame"):
        export_onnx(pipeline(), tmp_path / "model.onnx", frames=0)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(HissError, match=r"pip install 'hiss\[onnx\]'"):
        export_onnx(pipeline(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
