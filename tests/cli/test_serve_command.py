"""hiss serve: it says where it is, answers there, and stops in an orderly way."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from command_line import HISS, hiss, refused, tiny_model


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_says_where_it_is_and_stops_when_told(tmp_path: Path, number: signal.Signals) -> None:
    model = tiny_model(tmp_path / "tiny")
    environment = os.environ | {"HISS_TOKEN": "sesame"}
    with subprocess.Popen(
        [*HISS, "serve", "--port", "0", "--model", str(model)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": "Bearer sesame"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert [one["name"] for one in json.load(answer)] == ["tiny"]
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_a_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = hiss("serve", "--port", port, "--model", tiny_model(tmp_path / "tiny"))
    refused(result, 1, says=f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose another --port")


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(hiss("serve", "--model", "nothing"), 2, says="unknown model 'nothing'")


def test_without_its_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiss.cli.extras.find_spec", lambda name: None)
    refused(hiss("serve"), 1, says="pip install 'hiss[serve]'")
