"""Measures /v1/denoise: how much faster requests are answered that are worked on together than one by one.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--clients 16] [--seconds 0.5 1 4] [--shortest 0.6] [--rounds 3]

Two servers run in this process, on this machine, with the bundled denoiser: one makes batches, the other does not.
Each is asked by that many clients at once, twice each, for clips of the recording that comes with the package, all of
one length or from a share of it, `--shortest`, up to it. The two take turns, round by round, so that other work on the
machine disturbs both alike. Of each, the best round counts.
"""

import argparse
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path

import torch

from hiss.audio import Audio
from hiss.web.limits import Limits
from hiss.web.server import Listener
from hiss.web.shelf import Shelf

EACH = 2
"""Requests of a client."""


class Running:
    """A server on a free port of this machine."""

    def __init__(self, shelf: Shelf, *, together: int) -> None:
        there = threading.Event()
        limits = Limits(together=together, queue=1000)
        self.listener = Listener(
            shelf, host="127.0.0.1", port=0, token=None, limits=limits, ready=lambda _: there.set()
        )
        self.thread = threading.Thread(target=self.listener.run, args=([self.listener.socket],))
        self.thread.start()
        there.wait()

    def seconds(self, contents: Sequence[bytes]) -> float:
        """Returns how long it takes to answer all, where each client sends what is its own."""
        host, port = self.listener.socket.getsockname()

        def ask(content: bytes) -> None:
            connection = HTTPConnection(host, port)
            for _ in range(EACH):
                connection.request("POST", "/v1/denoise", content)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
            connection.close()

        began = time.perf_counter()
        with ThreadPoolExecutor(len(contents)) as pool:
            list(pool.map(ask, contents))
        return time.perf_counter() - began

    def stop(self) -> None:
        self.listener.should_exit = True
        self.thread.join()


def clip(recording: Audio, seconds: float) -> bytes:
    """Returns the beginning of a recording as a file."""
    return Audio(recording.samples[:, : round(seconds * recording.sample_rate)], recording.sample_rate).encode("flac")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.5, 1.0, 4.0])
    parser.add_argument("--shortest", type=float, default=1.0, help="share of the longest clip")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shelf = Shelf(["denoise-16k"])
    noisy = Audio.load(Path(str(files("hiss") / "recordings" / "noisy-speech.flac")))
    servers = {together: Running(shelf, together=together) for together in (16, 1)}
    try:
        for seconds in options.seconds:
            lengths = torch.linspace(options.shortest * seconds, seconds, options.clients).tolist()
            contents = [clip(noisy, length) for length in lengths]
            for server in servers.values():
                server.seconds(contents[:1])  # starts the decoder
            rounds = [
                {together: server.seconds(contents) for together, server in servers.items()}
                for _ in range(options.rounds)
            ]
            best = {together: min(one[together] for one in rounds) for together in servers}
            rates = {together: EACH * sum(lengths) / best[together] for together in servers}
            print(
                f"{options.clients} clients, clips of {lengths[0]:g} to {seconds:g} s, "
                f"{torch.get_num_threads()} threads: {rates[16]:.1f} s of sound per s in batches, "
                f"{rates[1]:.1f} one by one: {rates[16] / rates[1]:.2f} times as fast"
            )
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
