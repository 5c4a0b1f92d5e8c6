"""The server as a process: it starts, says where, and stops in an orderly way."""

import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from hiss.errors import HissError
from hiss.web.app import Server, create_app
from hiss.web.limits import Limits
from hiss.web.shelf import Shelf


class Listener(uvicorn.Server):
    """A server that says when it is there, and takes no more work from the moment it is told to stop."""

    def __init__(
        self, shelf: Shelf, *, host: str, port: int, token: str | None, limits: Limits, ready: Callable[[str], None]
    ) -> None:
        """Binds the address, so that one that is taken is told at once; a port of 0 takes any that is free.

        Raises:
            HissError: the address cannot be had.
        """
        app = create_app(shelf, limits=limits, token=token, host=host)
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=None)
        )
        self.server: Server = app.state.server
        self._ready = ready
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self.socket = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = str(error.strerror).partition(" (while")[0]  # Python adds the address
            raise HissError(f"cannot listen on {host}, port {port}: {reason}; choose another --port") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.socket.getsockname()[1]}"

    def serve_forever(self) -> None:
        """Answers requests until SIGINT or SIGTERM, then finishes or reports what runs."""
        # uvicorn passes the signal on when all is done, which then is no news.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):
                self.run([self.socket])
        finally:
            signal.signal(signal.SIGTERM, before)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops: requests that wait for their sounds get them, or a word why not."""
        await self.server.queue.close()
        await super().shutdown(sockets)
