"""What tests of the server share: tiny models, a real server on this machine, and a client for it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import denoisers
import torch

from hiss.conditioners.label import LabelConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations.waveform import WaveformConfig
from hiss.web.app import Server
from hiss.web.limits import Limits
from hiss.web.server import Listener
from hiss.web.shelf import Shelf

NOTES = ("low", "high")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """A server that runs, and a way to ask it."""

    url: str
    server: Server
    listener: Listener

    def ask(
        self, method: str, path: str, body: bytes | object = b"", *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Returns the answer to one request; a body that is no bytes is sent as JSON."""
        sent = dict(headers or {})
        if not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, {key.lower(): one for key, one in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: bytes | object, **headers: str) -> Answer:
        return self.ask("POST", path, body, headers={key.replace("_", "-"): one for key, one in headers.items()})

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)


def toy_model(folder: Path) -> Path:
    """Writes a model of random weights that makes 0.1 s at 8000 Hz."""
    config = ModelConfig(
        sample_rate=8000,
        seconds=0.1,
        representation=WaveformConfig(),
        network=UNetConfig(channels=(8, 8), patch=16, factors=(2,), attention=(False, False), embedding=8),
        conditioners=(LabelConfig(field="note", classes=NOTES, features=4),),
        sampling=SamplingConfig(steps=2),
    )
    with torch.random.fork_rng(devices=[]):
        model = AudioDiffusionModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=seeded(name))
    card = "# toy\n\nMakes sounds of 0.1 s.\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n\n<script>no</script>\n"
    Pipeline(model, card=card).save_pretrained(folder)
    return folder


def toy_denoiser(folder: Path) -> Path:
    """Writes a denoiser of random weights."""
    denoisers.tiny_denoiser().save_pretrained(folder)
    return folder


def toy_shelf(folder: Path) -> Shelf:
    """Returns both."""
    return Shelf([str(toy_model(folder / "toy")), str(toy_denoiser(folder / "quiet"))])


@contextmanager
def served(shelf: Shelf, *, token: str | None = None, limits: Limits | None = None) -> Iterator[Client]:
    """Runs a server on a free port of this machine."""
    there = threading.Event()
    listener = Listener(
        shelf, host="127.0.0.1", port=0, token=token, limits=limits or Limits(), ready=lambda _: there.set()
    )
    thread = threading.Thread(target=listener.run, args=([listener.socket],))
    thread.start()
    try:
        assert there.wait(30)
        yield Client(listener.url, listener.server, listener)
    finally:
        listener.should_exit = True
        thread.join(60)
        listener.socket.close()
    assert not thread.is_alive()
