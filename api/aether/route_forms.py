"""What every route of the marketplace has: where it is mounted, its words, and who may pass."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from api.aether.errors import WORDS
from api.aether.proof import NotYourWallet, ProofRefused, SignatureRefused
from api.limits import RateLimited
from api.routes import Route, RouteHandler
from ledger.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Rejected,
    StoreUnavailable,
)

MOUNTS: Final = ("", "/api", "/t/{token}", "/t/{token}/api")

_WHO: Final = frozenset({ProofRefused, SignatureRefused, NotYourWallet, RateLimited, Overloaded})
CLAIMS: Final = frozenset({Overloaded, OutcomeUnknown, StoreUnavailable, Conflict})
"""What a poll may answer, because it claims what it hands out."""
_DECIDED: Final = frozenset({NotFound, Conflict, Rejected})


def read(
    path: str,
    handler: RouteHandler,
    summary: str,
    response: type[BaseModel],
    query: type[BaseModel] | None = None,
    **more: Any,  # noqa: ANN401 - the rest of a route
) -> Route:
    """Return a route that is read, or polled, by who is proven."""
    errors = more.pop("errors", frozenset()) | _WHO | {InvalidInput}
    return Route(
        "GET",
        path,
        handler,
        summary,
        response=response,
        query=query,
        errors=errors,
        mounts=MOUNTS,
        words=WORDS,
        **more,
    )


def write(
    method: str,
    path: str,
    handler: RouteHandler,
    summary: str,
    request: type[BaseModel],
    response: type[BaseModel],
    **more: Any,  # noqa: ANN401 - the rest of a route
) -> Route:
    """Return a route that records something."""
    errors = more.pop("errors", frozenset()) | _WHO | _DECIDED
    return Route(
        method,
        path,
        handler,
        summary,
        request,
        response,
        writes=True,
        errors=errors,
        mounts=MOUNTS,
        words=WORDS,
        **more,
    )
