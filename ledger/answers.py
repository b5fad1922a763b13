"""Stored answers and erasure: what an answer repeats of erased words goes with them. Pure."""

from __future__ import annotations

from typing import Final

import orjson

_TEXTS: Final = frozenset({"message", "content", "description"})
_JSON: Final = frozenset({"attachments"})


def sign_of(field: str, value: bytes) -> bytes:
    """Return what stands in every answer that repeats this content, as it is written there."""
    return value if field in _JSON else orjson.dumps(value.decode())


def without(body: bytes, field: str, value: bytes) -> bytes:
    """Return a stored answer without one erased value; everything else in it stays.

    Texts become empty, as a reader is shown them from then on; other JSON is left out.
    """
    gone: object = orjson.loads(value) if field in _JSON else value.decode()
    return orjson.dumps(_wiped(orjson.loads(body), gone))


def _wiped(value: object, gone: object) -> object:
    if isinstance(value, list):
        return [_wiped(each, gone) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: "" if name in _TEXTS and each == gone else _wiped(each, gone)
        for name, each in value.items()
        if not (name in _JSON and each == gone)
    }
