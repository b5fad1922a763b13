"""The checks of which clients' schemas are made. `null` is never the same as absent."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}", re.ASCII)
TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
NETWORKS = frozenset({"base-mainnet", "base-sepolia"})

Check = Callable[[Any, str], None]


class Mismatch(Exception):
    """An answer is not what the client requires; names the member."""


def require(truth: object, where: str, wanted: str) -> None:
    if not truth:
        raise Mismatch(f"{where}: {wanted}")


def members(
    value: object,
    where: str,
    required: dict[str, Check],
    optional: dict[str, Check] | None = None,
    *,
    closed: bool = False,
) -> dict[str, Any]:
    """Check an object's members and return it. Others are dropped, or refused where `closed`."""
    if not isinstance(value, dict):
        raise Mismatch(f"{where}: an object")
    for name, check in required.items():
        require(name in value, f"{where}.{name}", "present")
        check(value[name], f"{where}.{name}")
    for name, check in (optional or {}).items():
        if name in value:
            check(value[name], f"{where}.{name}")
    known = {*required, *(optional or {})}
    require(not closed or known >= value.keys(), where, f"no members but {sorted(known)}")
    return {name: inner for name, inner in value.items() if name in known}


def anything(_value: object, _where: str) -> None:
    """Ask only that the member is there."""


def text(value: object, where: str) -> None:
    require(isinstance(value, str) and value, where, "text that is not empty")


def any_text(value: object, where: str) -> None:
    require(isinstance(value, str), where, "text")


def texts(value: object, where: str) -> None:
    good = isinstance(value, list) and all(isinstance(each, str) for each in value)
    require(good, where, "a list of texts")


def exactly(wanted: str) -> Check:
    return lambda value, where: require(value == wanted, where, f"exactly {wanted!r}")


def one_of(*words: str) -> Check:
    return lambda value, where: require(value in words, where, f"one of {words}")


def like(pattern: re.Pattern[str], what: str) -> Check:
    return lambda value, where: require(
        isinstance(value, str) and pattern.fullmatch(value), where, what
    )


address = like(ADDRESS, "an address")
hexadecimal = like(HEX, "hexadecimal")
signature = like(SIGNATURE, "a signature")
network = one_of(*sorted(NETWORKS))


def boolean(value: object, where: str) -> None:
    require(isinstance(value, bool), where, "true or false")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def not_negative(value: Any, where: str) -> None:  # noqa: ANN401 - unchecked JSON
    require(is_number(value) and value >= 0, where, "a number, 0 or more")


def positive(value: Any, where: str) -> None:  # noqa: ANN401 - unchecked JSON
    require(is_number(value) and value > 0, where, "a number above 0")


def positive_integer(value: Any, where: str) -> None:  # noqa: ANN401 - unchecked JSON
    require(is_number(value) and value > 0 and value == int(value), where, "an integer above 0")


def time(value: object, where: str) -> None:
    """Ask for ISO 8601 with a zone that is also a moment that exists."""
    like(TIME, "a time with a zone")(value, where)
    try:
        datetime.fromisoformat(str(value))
    except ValueError as error:
        raise Mismatch(f"{where}: a moment that exists") from error


def absolute_url(value: object, where: str) -> None:
    parts = urlsplit(value) if isinstance(value, str) else None
    require(parts is not None and parts.scheme and parts.netloc, where, "an absolute URL")
