"""Which view a client asked for: nothing, as every known client; the 1.1 words; the bare schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ledger.errors import InvalidInput

VERSION_HEADER: Final = "IVXP-Version"
VIEW_HEADER: Final = "IVXP-View"
VARY: Final = {"Vary": f"{VERSION_HEADER}, {VIEW_HEADER}"}
"""What a cache has to tell answers apart by."""

PROTOCOL_1_0: Final = "IVXP/1.0"
PROTOCOL_1_1: Final = "IVXP/1.1"
_VERSIONS: Final = {
    "1.0": PROTOCOL_1_0,
    PROTOCOL_1_0: PROTOCOL_1_0,
    "1.1": PROTOCOL_1_1,
    PROTOCOL_1_1: PROTOCOL_1_1,
}
_VIEWS: Final = {"strict": True, "default": False}


@dataclass(frozen=True, slots=True)
class View:
    """`rich` shows the words of 1.1, `strict` only the members that the schemas name."""

    rich: bool = False
    strict: bool = False


def view_asked(request: web.Request) -> View:
    """Return the view of a request; the query wins over headers.

    Raises `InvalidInput` for a version or view that does not exist.
    """
    version = request.query.get("protocol") or request.headers.get(VERSION_HEADER)
    view = request.query.get("view") or request.headers.get(VIEW_HEADER)
    return View(rich=_version(version) == PROTOCOL_1_1, strict=_strict(view))


def is_strict(request: web.Request) -> bool:
    """Whether only the members of the schemas are wanted; also of a request that is refused."""
    return (request.query.get("view") or request.headers.get(VIEW_HEADER)) == "strict"


def _version(text: str | None) -> str:
    if text is None:
        return PROTOCOL_1_0
    if text not in _VERSIONS:
        msg = f"this provider speaks {PROTOCOL_1_0} and {PROTOCOL_1_1}"
        raise InvalidInput(msg, code="PROTOCOL_VERSION_UNSUPPORTED")
    return _VERSIONS[text]


def _strict(text: str | None) -> bool:
    if text is None:
        return False
    if text not in _VIEWS:
        raise InvalidInput("view: is strict or default", details={"field": "view"})
    return _VIEWS[text]
