"""What every request passes first: who may ask, from where, how much may come in, and what browsers are told."""

from secrets import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hiss.web.limits import Limits
from hiss.web.metrics import Metrics
from hiss.web.problems import Refused, problem

OPEN = ("/", "/page.js", "/sound.js", "/page.css", "/icon.svg", "/healthz", "/openapi.json")
"""What may be read without the token: nothing that anybody made."""

UPLOADS = ("/v1/denoise", "/v1/edit")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SMALL = 1 << 16  # bytes of a request without a recording
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses what must not get in, and counts what was answered."""

    def __init__(self, app: ASGIApp, *, limits: Limits, metrics: Metrics, token: str | None, host: str) -> None:
        self._app, self._limits, self._metrics, self._token = app, limits, metrics, token
        self._local = host in _LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, came = Headers(scope=scope), 0
        most = self._limits.body if scope["path"] in UPLOADS else _SMALL

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise Refused(413, f"a request here holds at most {most} bytes")
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.add("hiss_requests_total", route=route, status=message["status"])
            await send(message)

        refusal = self._refusal(scope["path"], headers)
        if refusal is None:
            size = headers.get("content-length", "0")
            if size.isdecimal() and int(size) > most:
                refusal = Refused(413, f"a request here holds at most {most} bytes, not {size[:20]}")
        if refusal is None:
            await self._app(scope, counted, told)
        else:
            answer = problem(refusal.status_code, refusal.detail, dict(refusal.headers or {}))
            await answer(scope, receive, told)

    def _refusal(self, path: str, headers: Headers) -> Refused | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        # A page elsewhere must not reach a server on this machine, not even by a name of its own for 127.0.0.1.
        if self._local and urlsplit(f"//{host}").hostname not in _LOOPBACK:
            return Refused(403, "this server answers to 127.0.0.1 and localhost only; --host opens it")
        if origin is not None and urlsplit(origin).netloc != host:
            return Refused(403, "pages of other sites may not use this server")
        if self._token is None or path in OPEN:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and compare_digest(token.strip().encode(), self._token.encode()):
            return None
        refusal = Refused(401, "this server wants its token: Authorization: Bearer TOKEN")
        refusal.headers = {"WWW-Authenticate": "Bearer"}
        return refusal
