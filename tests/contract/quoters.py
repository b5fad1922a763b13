"""Sellers' code that names a price or says no, well and badly; and screens."""

from __future__ import annotations

import asyncio
import sys
import threading
from decimal import Decimal
from typing import Any

from api.quoter import Decline, QuoteFacts

LET_GO = threading.Event()
"""Set when the tests are over, so that no thread stays behind."""

ASKED: list[QuoteFacts] = []
SCREENED: list[tuple[str, str]] = []


def per_character(facts: QuoteFacts) -> Decimal:
    ASKED.append(facts)
    return Decimal("0.01") * len(facts.description)


async def as_text(facts: QuoteFacts) -> str:
    await asyncio.sleep(0)
    return "0.35"


def whole(facts: QuoteFacts) -> int:
    return 2


def declines(facts: QuoteFacts) -> Decimal:
    raise Decline("no work on Sundays")


async def declines_later(facts: QuoteFacts) -> Decimal:
    await asyncio.sleep(0)
    raise Decline("x" * 1000)


def raises(facts: QuoteFacts) -> Decimal:
    raise ValueError("the secret of " + facts.description)


def exits(facts: QuoteFacts) -> Decimal:
    sys.exit(3)


def hangs(facts: QuoteFacts) -> Decimal:
    LET_GO.wait(60)
    return Decimal(1)


async def waits(facts: QuoteFacts) -> Decimal:
    await asyncio.Event().wait()
    return Decimal(1)


ANSWERS: dict[str, Any] = {
    "nothing": None,
    "a_float": 0.1,
    "a_bool": True,
    "a_word": "cheap",
    "empty": "",
    "zero": 0,
    "negative": Decimal("-0.1"),
    "no_number": Decimal("NaN"),
    "infinite": "Infinity",
    "too_fine": "0.0000001",
    "too_much": "1000000.000001",
    "an_exponent": "1e999999999",
    "digits": "0." + "1" * 100,
}


def nonsense(name: str) -> Any:  # noqa: ANN401 - what no quoter should return
    return lambda _facts: ANSWERS[name]


nothing, a_float, a_bool, a_word = (nonsense(n) for n in ("nothing", "a_float", "a_bool", "a_word"))
empty, zero, negative, no_number = (nonsense(n) for n in ("empty", "zero", "negative", "no_number"))
infinite, too_fine, too_much = (nonsense(n) for n in ("infinite", "too_fine", "too_much"))
an_exponent, digits = (nonsense(n) for n in ("an_exponent", "digits"))


def screen(account: str, purpose: str) -> bool:
    SCREENED.append((account, purpose))
    return not account.endswith("bad")


async def screen_later(account: str, purpose: str) -> bool:
    await asyncio.sleep(0)
    return screen(account, purpose)


def screen_fails(account: str, purpose: str) -> bool:
    raise OSError("the list is away")


def screen_hangs(account: str, purpose: str) -> bool:
    LET_GO.wait(60)
    return True


def screen_says_nothing(account: str, purpose: str) -> None:
    return None
