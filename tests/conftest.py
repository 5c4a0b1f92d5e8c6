"""Every test runs on one thread, so that two of them do not fight over the cores, and leaves the log as it found it."""

import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

# A shell lets jobs in the background ignore Ctrl-C, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two processes that compile for numba's cache at the same time can break it for each other, and crash.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"numba-{os.getuid()}-{worker}")


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """The command line takes the log of the library over, for the rest of its process."""
    yield
    logger = logging.getLogger("hiss")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
