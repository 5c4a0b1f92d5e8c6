"""Errors as HTTP tells them: problem details. Source: Nottingham, Wilde, Dalal 2023, RFC 9457, section 3."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from hiss.errors import HissError

_log = logging.getLogger("hiss.web")


class Problem(BaseModel):
    """What went wrong, in one sentence that says what was expected."""

    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["unknown model 'digit' (did you mean 'digits'?); valid are: digits, tones"])


class Refused(HTTPException):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None) -> None:
        """`retry_after` seconds another try is worth it."""
        super().__init__(status, detail, None if retry_after is None else {"Retry-After": str(retry_after)})

    @property
    def problem(self) -> Problem:
        """The body of the answer."""
        return Problem(title=HTTPStatus(self.status_code).phrase, status=self.status_code, detail=self.detail)


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Returns what OpenAPI says of answers with these statuses."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Returns the answer to a request that fails."""
    body = Refused(status, detail).problem.model_dump()
    return JSONResponse(body, status, headers, "application/problem+json")


def handle(app: FastAPI) -> None:
    """Makes an application answer every error with a problem, and none with a traceback."""

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names the methods of one route only
            there = [route for route in app.routes if isinstance(route, Route) and _fits(route, request)]
            headers["Allow"] = ", ".join(sorted({method for route in there for method in route.methods or ()}))
        return problem(error.status_code, error.detail, headers)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(map(str, one['loc'][1:])) or 'the request'}: {one['msg']}" for one in error.errors()]
        return problem(422, "; ".join(found))

    @app.exception_handler(HissError)
    async def of_hiss(request: Request, error: HissError) -> JSONResponse:
        return problem(422, str(error))

    @app.exception_handler(Exception)
    async def of_fault(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "this is a fault in hiss; the log of the server says more")


def _fits(route: Route, request: Request) -> bool:
    return route.matches(request.scope)[0] != Match.NONE
