"""A causal denoiser as an ONNX graph: one step over a few frames, its state going in and coming out."""

import importlib
import io
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from hiss.audio import replacing
from hiss.conditioners.recording import Recording
from hiss.denoising import coding_by_frames
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel, divided
from hiss.pipeline import Pipeline
from hiss.types import Condition

OPSET = 17


def export_onnx(pipeline: Pipeline, path: str | Path, *, frames: int = 1) -> None:
    """Writes a graph that cleans a piece of `frames` frames in one step, to be run piece after piece.

    Inputs are `recording`, frames of the noisy recording as the representation of the model encodes them
    [1, channels, bins, frames]; `noise`, standard normal noise of the same shape; and the state: `state_0`, `state_1`
    and so on, zeros before the first piece. Outputs are `clean`, frames to be decoded, and `next_0`, `next_1` and so
    on, the state for the next piece. The metadata hold the sample rate, the representation and its scale.

    Raises:
        UsageError: the model cannot clean frame by frame, or frames is below 1.
        HissError: the package onnx is missing, or the file cannot be written.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as error:
        raise HissError("export to ONNX needs the package onnx: pip install 'hiss[onnx]'") from error
    model = pipeline.model
    if coding_by_frames(model) is None:
        raise UsageError("only a causal denoiser can be exported, one that cleans frame by frame")
    if frames < 1:
        raise UsageError(f"a piece has at least 1 frame, not {frames}")

    channels, bins, _ = model.representation.shape(1)
    recording = torch.ones(1, channels, bins, frames, device=model.device)
    step = OneStep(model).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: that the number of frames is fixed, as it shall be
        state = [torch.zeros_like(part) for part in step(recording, recording)[1:]]
        graph = io.BytesIO()
        torch.onnx.export(
            step,
            (recording, recording, *state),
            graph,  # type: ignore[arg-type]  # the older exporter, which keeps recurrent layers whole, takes it
            dynamo=False,
            opset_version=OPSET,
            input_names=["recording", "noise", *(f"state_{number}" for number in range(len(state)))],
            output_names=["clean", *(f"next_{number}" for number in range(len(state)))],
        )
    proto = onnx.load_model_from_string(graph.getvalue())
    described = {
        "sample_rate": str(model.config.sample_rate),
        "representation": json.dumps(model.config.representation.to_dict()),
        "scale": str(float(model.representation.get_buffer("scale"))),
    }
    onnx.helper.set_model_props(proto, described)
    onnx.checker.check_model(proto)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(proto.SerializeToString())


class OneStep(nn.Module):
    """(recording, noise, *state) -> (clean, *state): one evaluation from the highest noise level down to none."""

    def __init__(self, model: AudioDiffusionModel) -> None:
        super().__init__()
        self.denoiser = model.denoiser
        (self.recording,) = model.conditioners
        self.sigma = model.config.sampling.schedule.grid(1)[0].to(model.device)

    def forward(self, recording: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.recording, Recording)
        level, running = self.recording.running_level(recording, state[:2] or None)
        condition = Condition(signal=divided(recording, level))
        told = self.denoiser.told(self.sigma, condition, batch=len(noise))
        clean, after = self.denoiser.piece(self.sigma * noise, told, condition, state[2:] or None)
        # A frame of silence stays silence. The exporter's `any` rounds numbers to whole ones, so it gets none.
        heard = (recording != 0).flatten(1, -2).any(dim=1).reshape(level.shape)
        return clean * level * heard, *running, *after
