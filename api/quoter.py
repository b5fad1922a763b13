"""What an order costs and whether a client is served: asked of the operator's code, never guessed.

A quoter that says no is a refusal; one that fails, or answers nonsense, or is slow, is unknown:
nothing is recorded and the client may ask again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import orjson
from aiohttp import ClientResponse, web
from yarl import URL

from api.body import parse_json
from api.catalog import MAX_PRICE_USDC, Catalog, Offering
from api.config import Settings
from api.egress import ANSWER_MAX_BYTES, ANYWHERE, PUBLIC, Egress, TargetBlocked, parse_target
from api.hooks import Hook, HookUnavailable, load_callable
from ledger.errors import Conflict, InvalidInput, LedgerError, Misconfigured
from ledger.values import micros_of_usdc

MAX_REASON_CHARACTERS: Final = 200
MAX_PRICE_CHARACTERS: Final = 40


class Screened(LedgerError):
    """The operator's screen refuses this account."""

    code = "SCREENED"


class Decline(Exception):
    """Raised by a quoter that does not take an order; the client is told the reason."""

    def __init__(self, reason: str = "the provider does not take this order") -> None:
        self.reason = (str(reason) or "declined")[:MAX_REASON_CHARACTERS]
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True)
class QuoteFacts:
    """What a quoter knows of a request. `client` is a CAIP-10 account."""

    service: str
    description: str
    budget_usdc: Decimal
    client: str
    client_name: str
    delivery_format: str | None
    deadline: str | None
    base_price_usdc: Decimal


class Quoters:
    """The price of every offering that has no fixed one."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._timeout = settings.hook_timeout
        self._rules = ANYWHERE if settings.push_allow_private else PUBLIC
        self._egress: _Asker | None = None
        self._hooks = {s.type: self._hook(s) for s in catalog.services if not s.has_fixed_price}

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be able to ask quoters elsewhere for the length of a block."""
        async with _Asker(self._rules, timeout_seconds=self._timeout) as self._egress:
            yield

    async def price_micros(self, offering: Offering, facts: QuoteFacts) -> int:
        """Return the price of one order in micro-USDC, or raise the refusal."""
        if offering.has_fixed_price:
            return offering.price_micros
        try:
            answer = await self._hooks[offering.type].call(facts)
        except Decline as declined:
            msg = "the provider does not take this order"
            details = {"reason": declined.reason}
            raise Conflict(msg, code="QUOTE_DECLINED", details=details) from declined
        try:
            return _price(answer)
        except InvalidInput as error:
            raise HookUnavailable("the quoter named no price; ask again") from error

    def _hook(self, offering: Offering) -> Hook:
        named = offering.price
        function = self._remote(offering) if named is None else load_callable(named, "price")
        return Hook("quoter", function, timeout_seconds=self._timeout, passing=Decline)

    def _remote(self, offering: Offering) -> Callable[[QuoteFacts], Awaitable[object]]:
        try:
            url = parse_target(offering.price_url or "", self._rules)
        except TargetBlocked as error:
            raise Misconfigured(f"price_url of {offering.type}: {error.message}") from error

        async def ask(facts: QuoteFacts) -> object:
            if self._egress is None:
                raise RuntimeError("quoters are asked while the service runs")
            return _said(await self._egress.ask(url, orjson.dumps(_wire(facts))))

        return ask


class Screen:
    """Asks the operator's screen about an account. Without one, everybody passes."""

    def __init__(self, settings: Settings) -> None:
        self._hook: Hook | None = None
        if settings.screen:
            function = load_callable(settings.screen, "LEDGER_SCREEN")
            self._hook = Hook("screen", function, timeout_seconds=settings.hook_timeout)

    async def require(self, account: str, purpose: str) -> None:
        """Raise `Screened` if the account is refused, `HookUnavailable` if nobody can say."""
        if self._hook is None:
            return
        passes = await self._hook.call(account, purpose)
        if passes is False:
            raise Screened("this account is not served")
        if passes is not True:
            raise HookUnavailable("the screen gave no answer; ask again")


QUOTERS: Final = web.AppKey("quoters", Quoters)
SCREEN: Final = web.AppKey("screen", Screen)


class _Asker(Egress):
    """The guarded way out, with an answer that is read."""

    async def ask(self, url: URL, body: bytes) -> bytes:
        """Return the body of a 200, or raise."""
        async with self._request(url, body) as response:
            if response.status != web.HTTPOk.status_code:
                raise ValueError(f"the quoter answered {response.status}")
            return await _bounded(response)


async def _bounded(response: ClientResponse) -> bytes:
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > ANSWER_MAX_BYTES:
            raise ValueError("the quoter's answer is too long")
    return bytes(found)


def _wire(facts: QuoteFacts) -> dict[str, object]:
    """Return the facts as JSON has them; amounts as text, so that no fraction becomes a float."""
    return {
        "service": facts.service,
        "description": facts.description,
        "budget_usdc": f"{facts.budget_usdc:f}",
        "client": facts.client,
        "client_name": facts.client_name,
        "delivery_format": facts.delivery_format,
        "deadline": facts.deadline,
        "base_price_usdc": f"{facts.base_price_usdc:f}",
    }


def _said(body: bytes) -> object:
    answer = parse_json(body)
    if "declined" in answer:
        raise Decline(str(answer["declined"]))
    return answer["price_usdc"]


def _price(answer: object) -> int:
    """Return micro-USDC of what a quoter answered; a float is none: it cannot hold an amount."""
    if isinstance(answer, bool) or not isinstance(answer, Decimal | int | str):
        raise InvalidInput("a price is a Decimal, a whole number or text")
    if len(str(answer)) > MAX_PRICE_CHARACTERS:
        raise InvalidInput("a price has fewer digits")
    amount = Decimal(answer) if _is_number(answer) else None
    if amount is None or not 0 < amount <= MAX_PRICE_USDC:
        raise InvalidInput("a price is above 0 and at most a million")
    return micros_of_usdc(amount)


def _is_number(answer: Decimal | int | str) -> bool:
    try:
        return Decimal(answer).is_finite()
    except ArithmeticError:
        return False
