"""Packages that only some commands need, and what to install when one of them is missing."""

from importlib.util import find_spec

from hiss.errors import MissingPackageError

EXTRAS = {
    "accelerate": "train",
    "diffusers": "diffusers",
    "fastapi": "serve",
    "librosa": "evaluate",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxruntime": "metrics",
    "pesq": "metrics",
    "pystoi": "metrics",
    "speechmos": "metrics",
    "tensorboard": "train",
    "tokenizers": "text",
    "transformers": "text",
    "uvicorn": "serve",
    "webdataset": "train",
}
"""The extra that brings a package."""


def need(*packages: str) -> None:
    """Makes sure that packages are there before long work begins.

    Raises:
        MissingPackageError: one of them is not; the sentence says what to install.
    """
    for package in packages:
        if not there(package):
            raise MissingPackageError(missing(package))


def there(package: str) -> bool:
    """Returns whether a package is installed."""
    return find_spec(package) is not None


def missing(package: str) -> str:
    """Returns what to do without a package."""
    return f"the package {package} is missing; install it with: pip install 'hiss[{EXTRAS.get(package, 'all')}]'"
