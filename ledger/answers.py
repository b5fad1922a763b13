"""Stored answers and erasure: what an answer repeats of people's words goes with them. Pure."""

from __future__ import annotations

from typing import Final

import orjson

_MARK: Final = "conversationId"
"""Every object of the marketplace that holds anybody's words has this member."""
_TEXTS: Final = ("message", "content", "description")
_REST: Final = ("attachments",)


def without_words(body: bytes) -> bytes:
    """Return a stored answer as it reads once the words in it were erased; others as they are."""
    return orjson.dumps(_wiped(orjson.loads(body)))


def _wiped(value: object) -> object:
    if isinstance(value, list):
        return [_wiped(each) for each in value]
    if not isinstance(value, dict):
        return value
    wiped = {name: _wiped(each) for name, each in value.items()}
    if _MARK not in wiped:
        return wiped
    texts = {name: "" for name in _TEXTS if isinstance(wiped.get(name), str)}
    return {name: each for name, each in {**wiped, **texts}.items() if name not in _REST}
