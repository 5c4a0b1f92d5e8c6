"""Measures /v1/denoise: how much faster requests are answered that are worked on together than one by one.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--clients 16] [--seconds 0.5 1 4] [--rounds 3]

Two servers run in this process, on this machine, with the bundled denoiser: one makes batches, the other does not.
Each is asked by that many clients at once, twice each, for clips of the recording that comes with the package; the two
take turns, round by round, so that other work on the machine disturbs both alike. Of each, the best round counts.
"""

import argparse
import threading
import time
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

    def seconds(self, content: bytes, clients: int) -> float:
        """Returns how long it takes to answer all."""
        host, port = self.listener.socket.getsockname()

        def ask(_: int) -> None:
            connection = HTTPConnection(host, port)
            for _ in range(EACH):
                connection.request("POST", "/v1/denoise", content)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
            connection.close()

        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, range(clients)))
        return time.perf_counter() - began

    def stop(self) -> None:
        self.listener.should_exit = True
        self.thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.5, 1.0, 4.0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shelf = Shelf(["denoise-16k"])
    noisy = Audio.load(Path(str(files("hiss") / "recordings" / "noisy-speech.flac")))
    servers = {together: Running(shelf, together=together) for together in (16, 1)}
    try:
        for seconds in options.seconds:
            content = Audio(noisy.samples[:, : round(seconds * noisy.sample_rate)], noisy.sample_rate).encode("flac")
            for server in servers.values():
                server.seconds(content, 1)  # starts the decoder
            rounds = [
                {together: server.seconds(content, options.clients) for together, server in servers.items()}
                for _ in range(options.rounds)
            ]
            best = {together: min(one[together] for one in rounds) for together in servers}
            rates = {together: options.clients * EACH * seconds / best[together] for together in servers}
            print(
                f"{options.clients} clients, clips of {seconds:g} s, {torch.get_num_threads()} threads: "
                f"{rates[16]:.1f} s of sound per s in batches, {rates[1]:.1f} one by one: "
                f"{rates[16] / rates[1]:.2f} times as fast"
            )
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
