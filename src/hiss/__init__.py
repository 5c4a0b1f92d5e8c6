"""hiss turns noise into sound: audio diffusion models that train and run anywhere, offline.

import hiss

seven = hiss.load("digits").generate(7, seed=0)
seven.save("seven.wav")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiss.audio import Audio, normalize_audio
    from hiss.config import ModelConfig, SamplingConfig
    from hiss.denoise_files import denoise_audio
    from hiss.errors import HissError, UsageError
    from hiss.model import AudioDiffusionModel
    from hiss.pipeline import Pipeline, bundled, load
    from hiss.spec import Spec
    from hiss.types import Batch, Condition, Prompt

_HOME = {
    "Audio": "audio",
    "AudioDiffusionModel": "model",
    "Batch": "types",
    "Condition": "types",
    "HissError": "errors",
    "ModelConfig": "config",
    "Pipeline": "pipeline",
    "Prompt": "types",
    "SamplingConfig": "config",
    "Spec": "spec",
    "UsageError": "errors",
    "bundled": "pipeline",
    "denoise_audio": "denoise_files",
    "load": "pipeline",
    "normalize_audio": "audio",
}

__all__ = [
    "Audio",
    "AudioDiffusionModel",
    "Batch",
    "Condition",
    "HissError",
    "ModelConfig",
    "Pipeline",
    "Prompt",
    "SamplingConfig",
    "Spec",
    "UsageError",
    "bundled",
    "denoise_audio",
    "load",
    "normalize_audio",
]


def __getattr__(name: str) -> Any:
    """Imports a public name where it is first used, so that `import hiss` costs next to nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'hiss' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hiss.{_HOME[name]}"), name)
