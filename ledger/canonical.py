"""The one definition of the bytes that are signed and hashed: a strict subset of JCS (RFC 8785).

Integers only (|n| < 2**53), keys `[a-z0-9_]`, no floats. In that subset sorted compact UTF-8 JSON
equals JCS, so anybody can verify with a standard JSON encoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final, NoReturn

import orjson

from ledger.errors import VerificationError

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32
MAX_REMEMBERED_KEYS: Final = 1024
_KEY = re.compile(r"[a-z0-9_]+")
_GOOD_KEYS: set[str] = set()  # the same few keys come in every event; only a speed-up


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a JSON value, or raise `VerificationError` naming the path."""
    if not _fits(value, 0):
        _walk(value, "$", 0)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        msg = f"not encodable: {error}"
        raise VerificationError(msg) from error


def canonical_of_models(value: dict[str, object]) -> bytes:
    """Return the canonical bytes of what our own strict models dumped.

    Their types admit nothing else than the subset, so the walk would find nothing; a test takes
    the walk for every kind. It is a tenth of the cost of an append.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def parse_canonical(data: bytes) -> Json:
    """Parse bytes that must be canonical: any second encoding of the same value is refused."""
    value = parse_strict(data)
    if canonical(value) != data:
        msg = "the bytes are JSON but not canonical"
        raise VerificationError(msg)
    return value


def parse_strict(data: bytes) -> Json:
    """Parse JSON, refusing duplicate keys, floats, NaN, byte order marks, bad UTF-8 and depth."""
    try:
        # orjson's own nesting limit holds where the process's recursion limit was raised: there
        # the standard parser would overflow the C stack on deep input and end the process.
        orjson.loads(data)
        value: Json = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refuse_float,
            parse_constant=_refuse_float,
        )
    except (ValueError, RecursionError) as error:
        msg = f"not strict JSON: {error}"
        raise VerificationError(msg) from error
    return value


def _fits(value: object, depth: int) -> bool:
    """Whether `_walk` would pass: the same rules without the path, for the usual case."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if isinstance(value, int):
        return kind is int and -MAX_INTEGER <= value <= MAX_INTEGER
    if depth >= MAX_DEPTH:
        return False
    if isinstance(value, dict):
        if not value.keys() <= _GOOD_KEYS:
            return False
        items: Iterable[object] = value.values()
    elif isinstance(value, list):
        items = value
    else:
        return False
    for item in items:  # noqa: SIM110 - a generator costs more than the check itself
        if type(item) is not str and not _fits(item, depth + 1):
            return False
    return True


def _walk(value: object, path: str, depth: int) -> None:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]  # narrowed by type()
            _refuse(path, "an integer outside 2**53")
    elif isinstance(value, dict) and depth < MAX_DEPTH:
        for key, item in value.items():
            if key not in _GOOD_KEYS:
                _check_key(key, path)
            _walk(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list) and depth < MAX_DEPTH:
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]", depth + 1)
    else:
        _refuse(path, f"a {kind.__name__}")


def _check_key(key: object, path: str) -> None:
    if type(key) is not str or not _KEY.fullmatch(key):
        _refuse(path, f"the key {key!r}")
    if len(_GOOD_KEYS) < MAX_REMEMBERED_KEYS:
        _GOOD_KEYS.add(key)


def _refuse(path: str, what: str) -> NoReturn:
    msg = f"{path}: {what} has no canonical form"
    raise VerificationError(msg)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "an object repeats a key"
        raise ValueError(msg)
    return found


def _refuse_float(text: str) -> NoReturn:
    msg = f"{text} is not an integer"
    raise ValueError(msg)
