"""A client by the protocol's documents: closed schemas, every receipt they name, the 1.1 words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from tests.clients import checks as c
from tests.clients.wallet import Clock, Wallet, iso_millis, utc_clock
from tests.clients.wire import Exchange, encode, send

PROTOCOL: Final = "IVXP/1.0"
ORDER_ID: Final = re.compile(
    r"ivxp-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
HASH: Final = re.compile(r"sha256:[a-f0-9]{64}", re.ASCII)
CODE: Final = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", re.ASCII)
WORDS: Final = ("quoted", "paid", "processing", "delivered", "delivery_failed")
RICH_WORDS: Final = ("expired", "ready", "posted", "client_confirmed", "disputed", "refunded")


def catalog(body: object) -> dict[str, Any]:
    found = c.members(
        body,
        "catalog",
        {
            "protocol": c.exactly(PROTOCOL),
            "provider": c.text,
            "wallet_address": c.address,
            "services": c.anything,
        },
        {"message_type": c.exactly("service_catalog"), "timestamp": c.time},
        closed=True,
    )
    entry: dict[str, c.Check] = {
        "type": c.text,
        "base_price_usdc": c.not_negative,
        "estimated_delivery_hours": c.positive,
    }
    c.require(isinstance(found["services"], list), "catalog.services", "a list")
    for each in found["services"]:
        c.members(each, "catalog.services[]", entry, closed=True)
    return found


def quote(body: object) -> dict[str, Any]:
    found = c.members(
        body,
        "quote",
        {
            "protocol": c.exactly(PROTOCOL),
            "message_type": c.exactly("service_quote"),
            "timestamp": c.time,
            "order_id": c.like(ORDER_ID, "an order id"),
            "provider_agent": c.anything,
            "quote": c.anything,
        },
        {"terms": c.anything},
        closed=True,
    )
    _agent(found["provider_agent"], {"public_key": c.hexadecimal})
    terms: dict[str, c.Check] = {
        "price_usdc": c.positive,
        "estimated_delivery": c.time,
        "payment_address": c.address,
        "network": c.network,
    }
    c.members(found["quote"], "quote.quote", terms, {"token_contract": c.address}, closed=True)
    policies: dict[str, c.Check] = {
        "payment_timeout": c.positive_integer,
        "revision_policy": c.any_text,
        "refund_policy": c.any_text,
    }
    c.members(found.get("terms", {}), "quote.terms", {}, policies, closed=True)
    return found


def _agent(value: object, optional: dict[str, c.Check] | None = None) -> None:
    required: dict[str, c.Check] = {"name": c.text, "wallet_address": c.address}
    c.members(value, "provider_agent", required, optional, closed=True)


def accepted(body: object) -> dict[str, Any]:
    required: dict[str, c.Check] = {
        "status": c.exactly("accepted"),
        "order_id": c.text,
        "message": c.text,
    }
    return c.members(body, "acceptance", required, closed=True)


def status(body: object) -> dict[str, Any]:
    required: dict[str, c.Check] = {
        "order_id": c.text,
        "status": c.one_of(*WORDS),
        "created_at": c.time,
        "service_type": c.text,
        "price_usdc": c.not_negative,
    }
    return c.members(body, "status", required, closed=True)


def download(body: object) -> dict[str, Any]:
    found = c.members(
        body,
        "download",
        {
            "protocol": c.exactly(PROTOCOL),
            "message_type": c.exactly("service_delivery"),
            "timestamp": c.time,
            "order_id": c.text,
            "status": c.exactly("completed"),
            "provider_agent": c.anything,
            "deliverable": c.anything,
            "content_hash": c.like(HASH, "sha256: and 64 digits"),
        },
        {"delivered_at": c.time, "signature": c.signature, "signed_message": c.any_text},
        closed=True,
    )
    _agent(found["provider_agent"])
    required: dict[str, c.Check] = {"type": c.text, "content": c.anything}
    c.members(found["deliverable"], "deliverable", required, {"format": c.any_text}, closed=True)
    return found


def rich_status(body: object) -> dict[str, Any]:
    """Check the status of 1.1: the rich words, and the time of each step."""
    found = c.members(
        body,
        "status",
        {"order_id": c.text, "status": c.one_of(*WORDS, *RICH_WORDS), "status_details": c.anything},
        {"client_satisfaction": c.positive_integer},
    )
    times: dict[str, c.Check] = dict.fromkeys(("paid_at", "posted_at", "confirmed_at"), c.time)
    c.members(found["status_details"], "status_details", {"created_at": c.time}, times)
    return found


def error(answer: Exchange) -> dict[str, Any]:
    """Check an error's body: a code in capitals and a message."""
    required: dict[str, c.Check] = {"error": c.like(CODE, "a code"), "message": c.text}
    return c.members(answer.json(), "error", required)


@dataclass
class DocumentClient:
    """One wallet. `view` is sent with every request, as query or as headers."""

    session: aiohttp.ClientSession
    base_url: str
    wallet: Wallet
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    now: Clock = utc_clock

    async def get(self, path: str) -> Exchange:
        return await self._send("GET", path, None)

    async def post(self, path: str, body: object) -> Exchange:
        return await self._send("POST", path, encode(body))

    def request(self, service: str, description: str, budget_usdc: float) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "message_type": "service_request",
            "timestamp": self._stamp(),
            "client_agent": {"name": "documents", "wallet_address": self.wallet.address},
            "service_request": {
                "type": service,
                "description": description,
                "budget_usdc": budget_usdc,
                "delivery_format": "markdown",
                "deadline": self._stamp(),
            },
        }

    def notice(self, order_id: str, tx_hash: str, network: str, nonce: str) -> dict[str, Any]:
        """Return a payment notice with every member that the schema has."""
        stamp = self._stamp()
        text = (
            f"IVXP-DELIVER | Order: {order_id} | Payment: {tx_hash} | Nonce: {nonce}"
            f" | Timestamp: {stamp}"
        )
        return {
            "protocol": PROTOCOL,
            "message_type": "delivery_request",
            "timestamp": stamp,
            "order_id": order_id,
            "nonce": nonce,
            "payment_proof": {
                "tx_hash": tx_hash,
                "from_address": self.wallet.address,
                "to_address": "0x" + "12" * 20,
                "amount_usdc": "100000",
                "block_number": 1,
                "network": network,
            },
            "signature": self.wallet.sign(text),
            "signed_message": text,
        }

    def receipt(
        self, order_id: str, said_hash: str, *, rating: int | None = None, protocol: str = PROTOCOL
    ) -> dict[str, Any]:
        """Return the receipt of the documents: signed beside `confirmation`, with the hash."""
        stamp = self._stamp()
        text = f"Order: {order_id} | Received: true | Hash: {said_hash} | Timestamp: {stamp}"
        confirmation: dict[str, Any] = {
            "received": True,
            "content_hash": said_hash,
            "received_at": stamp,
        }
        if rating is not None:
            confirmation["satisfaction_rating"] = rating
        return {
            "protocol": protocol,
            "message_type": "delivery_confirmation",
            "timestamp": stamp,
            "order_id": order_id,
            "client_agent": {"name": "documents", "wallet_address": self.wallet.address},
            "confirmation": confirmation,
            "signature": self.wallet.sign(text),
            "signed_message": text,
        }

    def old_receipt(self, order_id: str, said_hash: str, rating: int | None) -> dict[str, Any]:
        """Return the receipt of the oldest document: flat, and the text names no hash."""
        stamp = self._stamp()
        text = f"Order: {order_id} | Received: {stamp} | Satisfied: true"
        return {
            "protocol": PROTOCOL,
            "message_type": "delivery_confirmation",
            "timestamp": stamp,
            "order_id": order_id,
            "status": "received",
            "content_hash": said_hash,
            **({} if rating is None else {"satisfaction_rating": rating}),
            "signature": self.wallet.sign(text),
            "signed_message": text,
        }

    def _stamp(self) -> str:
        return iso_millis(self.now())

    async def _send(self, method: str, path: str, body: bytes | None) -> Exchange:
        headers = {"Accept": "*/*", "Content-Type": "application/json", **dict(self.headers)}
        url = self.base_url + path + self.query
        return await send(self.session, method, url, headers, body)
