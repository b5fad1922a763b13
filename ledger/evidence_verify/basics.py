"""What every part shares: how a check fails, and JSON that has one form."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

Doc = dict[str, Any]

FORMAT = 2
"""The number of the bundle's form: whatever changes a byte of a page that is made takes another."""

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 32
KEY = re.compile(r"[a-z0-9_]+", re.ASCII)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)
STAMP = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
HOURS, MINUTES, MINUTE_MS = 24, 60, 60_000
LONGER = (("day", 86_400), ("hour", 3600), ("minute", 60))
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - older Pythons have no UTC
EM_DASH = "\N{EM DASH}"


class Bad(Exception):
    """Something does not hold; the text says what, for people."""


def fail(text: str) -> NoReturn:
    raise Bad(text)


def need(holds: object, text: str) -> None:
    """Raise `Bad` with the text unless it holds."""
    if not holds:
        raise Bad(text)


def parse_json(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON without any freedom: no repeated key, no float, no NaN, no bad UTF-8."""
    _require_shallow(data)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise Bad(f"not strict JSON: {error}") from error


def canonical(value: object) -> bytes:
    """Return the one encoding of a value of integers, text, lists and objects."""
    _walk(value, "$", 0)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return encoded(text)


def parse_canonical(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Parse bytes that have to be the one encoding of their value."""
    value = parse_json(data)
    need(canonical(value) == data, "JSON, but not in its one form")
    return value


def pretty(value: object) -> bytes:
    """Return JSON for people to read; as much one form as the canonical one."""
    _walk(value, "$", 0)
    return encoded(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def parse_pretty(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    value = parse_json(data)
    need(pretty(value) == data, "JSON, but not in the form that it is written in")
    return value


def encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Bad("half a surrogate pair is no text") from error


def moment_ms(text: str) -> int:
    """Return the Unix milliseconds of an event's time, which has one form."""
    need(MOMENT.fullmatch(text), f"the time {text!r} is not in its form")
    try:
        # Older Pythons do not read the Z.
        moment = datetime.fromisoformat(text[:-1] + "+00:00")  # noqa: FURB162
        return (moment - EPOCH) // timedelta(milliseconds=1)
    except ValueError as error:
        raise Bad(f"the time {text!r} names no moment") from error


def stamp_ms(text: str) -> int:
    """Return the Unix milliseconds of the time in a party's text: ISO 8601 with a time zone."""
    match = STAMP.fullmatch(text)
    if match is None:
        fail(f"the time {text!r} is no ISO 8601 with a time zone")
    whole, fraction, sign, hours, minutes = match.groups(default="0")
    # Older Pythons read fewer forms than the protocol has, so the parts are read one by one.
    late = int(hours) * 60 + int(minutes)
    named = int(hours) < HOURS and int(minutes) < MINUTES
    start = moment_ms(f"{whole}.000Z") + int(fraction.ljust(3, "0")[:3])
    need(named, f"the time {text!r} names no time zone")
    return start + late * MINUTE_MS * (1 if sign == "-" else -1)


def duration(seconds: int) -> str:
    """Return a length of time as people say it, and in seconds where that is another number."""
    for unit, length in LONGER:
        if seconds and seconds % length == 0:
            return f"{count(seconds // length, unit)} ({count(seconds, 'second')})"
    return count(seconds, "second")


def time_text(seconds: int) -> str:
    """Return Unix seconds as people read them."""
    try:
        return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError):
        return f"second {seconds} of Unix time"


def usdc(micros: int) -> str:
    """Return micro-USDC as an amount of USDC with its six decimals."""
    sign = "-" if micros < 0 else ""
    return f"{sign}{abs(micros) // 10**6}.{abs(micros) % 10**6:06d} USDC"


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _require_shallow(data: bytes) -> None:
    """Refuse deep nesting before it is parsed: it may end the whole process, not only the check."""
    depth = 0
    for mark in MARKS.findall(data):
        depth += (mark in (b"[", b"{")) - (mark in (b"]", b"}"))
        need(depth <= MAX_DEPTH, "nested too deeply")


def _walk(value: object, path: str, depth: int) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        need(-MAX_INTEGER <= value <= MAX_INTEGER, f"{path}: an integer outside 2**53")
    elif isinstance(value, dict) and depth < MAX_DEPTH:
        for key, item in value.items():
            need(isinstance(key, str) and KEY.fullmatch(key), f"{path}: the key {key!r}")
            _walk(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list) and depth < MAX_DEPTH:
        for item in value:
            _walk(item, f"{path}[]", depth + 1)
    else:
        fail(f"{path}: this has no canonical form")


def _unique(pairs: list[tuple[str, Any]]) -> Doc:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object repeats a key")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no integer")
