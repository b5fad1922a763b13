"""The client of the TypeScript SDK on the wire, as strict and as impatient as it is.

It never repeats a request by itself. Delays are asked of `pause`, which a test may answer by
waiting for something else than time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from tests.clients import sdk_answers
from tests.clients.checks import Mismatch
from tests.clients.sdk_answers import PROTOCOL
from tests.clients.sdk_stream import StreamExhausted, follow
from tests.clients.wallet import Clock, Pause, Wallet, iso_millis, micros_of, utc_clock
from tests.clients.wire import Exchange, encode, send

MAX_POLLS: Final = 20
MAX_DELAY_SECONDS: Final = 30.0
JITTER: Final = 0.2
ZERO_ADDRESS: Final = "0x" + "0" * 40
STOP: Final = frozenset({"delivered", "delivery_failed"})
UNDEFINED: Final = None
"""What an empty body of a 2xx answer is parsed as."""

_CODES: Final = {401: "SIGNATURE_INVALID", 402: "PAYMENT_NOT_VERIFIED", 404: "ORDER_NOT_FOUND"}


class SdkError(Exception):
    """What the SDK throws: its code, and for people a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class PartialSuccess(SdkError):
    """The money is gone and the notice was not accepted; the SDK itself does not try again."""

    def __init__(self, tx_hash: str, cause: SdkError) -> None:
        super().__init__("PARTIAL_SUCCESS", cause.message)
        self.tx_hash = tx_hash
        self.cause = cause


@dataclass
class Purchase:
    """The result of `request_service`."""

    order_id: str
    status: dict[str, Any]
    deliverable: dict[str, Any]
    confirmation: dict[str, Any]


@dataclass
class SdkClient:
    """One wallet at one provider. `calls` and `events` remember what it did and was told."""

    session: aiohttp.ClientSession
    base_url: str
    wallet: Wallet
    pause: Pause
    random: Callable[[], float]
    now: Clock = utc_clock
    calls: list[str] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Cut the query and trailing slashes of the base URL; keep a path."""
        scheme, host, path, _, _ = urlsplit(self.base_url)
        self._base = urlunsplit((scheme, host, path.rstrip("/"), "", ""))

    async def get_catalog(self) -> dict[str, Any]:
        return _checked(sdk_answers.catalog, await self._call("GET", "/ivxp/catalog"))

    async def request_quote(
        self, service: str, description: str, budget_usdc: float, **more: str
    ) -> dict[str, Any]:
        """Ask for a quote; more are `contact_endpoint`, `delivery_format` and `deadline`."""
        agent = {"name": "IVXP SDK Client", "wallet_address": self.wallet.address}
        if "contact_endpoint" in more:
            agent["contact_endpoint"] = more.pop("contact_endpoint")
        wanted = {"type": service, "description": description, "budget_usdc": budget_usdc, **more}
        body = {
            **self._head("service_request"),
            "client_agent": agent,
            "service_request": wanted,
        }
        return _checked(sdk_answers.quote, await self._call("POST", "/ivxp/request", body))

    async def submit_payment(self, quote: dict[str, Any]) -> tuple[str, str | None]:
        """Pay and give notice; return the transaction and where to follow the order, if told.

        Raises `PartialSuccess` where the notice fails after the transfer.
        """
        terms = quote["quote"]
        if terms["payment_address"] == ZERO_ADDRESS:
            raise SdkError("INVALID_PAYMENT_ADDRESS", "the quote names no address")
        micros = micros_of(terms["price_usdc"])
        tx_hash = await self.wallet.pay(terms["payment_address"], micros)
        notice = self.notice(quote, tx_hash)
        try:
            answer = await self.notify(notice)
        except SdkError as error:
            raise PartialSuccess(tx_hash, error) from error
        return tx_hash, sdk_answers.stream_url(answer)

    def notice(self, quote: dict[str, Any], tx_hash: str) -> dict[str, Any]:
        """Return a freshly signed payment notice."""
        order_id, terms, head = quote["order_id"], quote["quote"], self._head("payment_proof")
        text = f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {head['timestamp']}"
        micros = micros_of(terms["price_usdc"])
        return {
            **head,
            "order_id": order_id,
            "payment": {
                "tx_hash": tx_hash,
                "amount_usdc": f"{micros // 1_000_000}.{micros % 1_000_000:06}",
                "network": terms["network"],
            },
            "signature": self._signed(text, "sig"),
        }

    async def notify(self, notice: dict[str, Any]) -> object:
        """Send a payment notice: any 2xx with JSON or without a body is success."""
        return await self._call("POST", _order(notice["order_id"], "/payment"), notice)

    async def get_order_status(self, order_id: str) -> dict[str, Any]:
        answer = await self._call("GET", _order(order_id))
        try:
            return sdk_answers.status(answer)
        except Mismatch as error:
            raise SdkError("INVALID_ORDER_STATUS_FORMAT", str(error)) from error

    async def wait_for_delivery(self, order_id: str) -> dict[str, Any]:
        """Poll until a stop word; the first failed question ends it."""
        delay = 1.0
        for _ in range(MAX_POLLS):
            status = await self.get_order_status(order_id)
            if status["status"] in STOP:
                return status
            await self.pause(delay * (1 + JITTER * (2 * self.random() - 1)))
            delay = min(2 * delay, MAX_DELAY_SECONDS)
        raise SdkError("MAX_POLL_ATTEMPTS", f"no end after {MAX_POLLS} questions")

    async def download_deliverable(self, order_id: str) -> dict[str, Any]:
        answer = await self._call("GET", _order(order_id, "/deliverable"))
        return _checked(lambda body: sdk_answers.deliverable(body, order_id), answer)

    async def confirm_delivery(self, order_id: str) -> dict[str, Any]:
        head = self._head("delivery_confirmation")
        text = f"Confirm delivery: {order_id} | Timestamp: {head['timestamp']}"
        body = {**head, "order_id": order_id, "confirmation": self._signed(text, "signature")}
        answer = await self._call("POST", _order(order_id, "/confirm"), body)
        return _checked(sdk_answers.confirmed, answer)

    async def subscribe_to_stream(self, url: str) -> str:
        """Follow an order to its last event and return that event's kind."""
        self.calls.append(f"GET {urlsplit(url).path}")
        return await follow(
            self.session, url, self.pause, lambda kind, data: self.events.append((kind, data))
        )

    async def request_service(
        self, service: str, description: str, budget_usdc: float, **more: str
    ) -> Purchase:
        """Buy in one call: from the catalog to the confirmation."""
        catalog = await self.get_catalog()
        quote = await self.request_quote(service, description, budget_usdc, **more)
        if micros_of(quote["quote"]["price_usdc"]) > micros_of(budget_usdc):
            raise SdkError("BUDGET_EXCEEDED", "the quote is above the budget")
        order_id = quote["order_id"]
        _, stream_url = await self.submit_payment(quote)
        can_stream = "sse" in catalog.get("capabilities", [])
        status = await self._end_of(order_id, stream_url if can_stream else None)
        if status["status"] == "delivery_failed":
            raise SdkError("DELIVERY_FAILED", order_id)
        deliverable = await self.download_deliverable(order_id)
        confirmation = await self.confirm_delivery(order_id)
        return Purchase(order_id, status, deliverable, confirmation)

    async def _end_of(self, order_id: str, stream_url: str | None) -> dict[str, Any]:
        """Return the last status; after a stream one question, whatever its answer says."""
        if stream_url is not None:
            try:
                await self.subscribe_to_stream(stream_url)
            except StreamExhausted:
                self.events.append(("sse_fallback", ""))
            else:
                return await self.get_order_status(order_id)
        return await self.wait_for_delivery(order_id)

    def _head(self, message_type: str) -> dict[str, Any]:
        stamp = iso_millis(self.now())
        return {"protocol": PROTOCOL, "message_type": message_type, "timestamp": stamp}

    def _signed(self, text: str, name: str) -> dict[str, str]:
        return {"message": text, name: self.wallet.sign(text), "signer": self.wallet.address}

    async def _call(self, method: str, path: str, body: object = UNDEFINED) -> object:
        self.calls.append(f"{method} {path}")
        data = encode(body) if body is not UNDEFINED else None
        headers = {"Accept": "*/*", "Content-Type": "application/json"}
        try:
            answer = await send(self.session, method, self._base + path, headers, data)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SdkError("SERVICE_UNAVAILABLE", str(error)) from error
        return _parsed(answer)


def _order(order_id: str, tail: str = "") -> str:
    if not order_id or "|" in order_id:
        raise SdkError("INVALID_ORDER_ID", order_id)
    encoded = percent_encoded(order_id, safe="-_.!~*'()")
    return f"/ivxp/orders/{encoded}{tail}"


def _checked(check: Callable[[object], dict[str, Any]], answer: object) -> dict[str, Any]:
    try:
        return check(answer)
    except Mismatch as error:
        raise SdkError("INVALID_ANSWER", str(error)) from error


def _parsed(answer: Exchange) -> object:
    """Return the body of a 2xx answer; raise `SdkError` for every other one."""
    if not answer.ok:
        code = "SERVICE_UNAVAILABLE" if answer.status >= 500 else f"HTTP_{answer.status}"
        raise SdkError(_CODES.get(answer.status, code), _message(answer))
    if not answer.body:
        return UNDEFINED
    media_type = answer.header("Content-Type")
    if media_type is not None and "application/json" not in media_type.lower():
        raise SdkError("SERVICE_UNAVAILABLE", f"the answer is {media_type}")
    try:
        return answer.json()
    except ValueError as error:
        raise SdkError("SERVICE_UNAVAILABLE", "the answer is no JSON") from error


def _message(answer: Exchange) -> str:
    """Return the member `message`; `error` is never read, so without it a reason phrase is left."""
    try:
        body = answer.json()
    except ValueError:
        return answer.reason
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else answer.reason
