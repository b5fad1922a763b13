"""The interoperability test's minimal client: ten checks of one provider, each passed or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import aiohttp

from tests.clients.wallet import Clock, Pause, Wallet, iso_aware, micros_of, utc_clock
from tests.clients.wire import Exchange, encode, send

NETWORK: Final = "base-sepolia"
FAKE_TX: Final = "0x" + "1234567890abcdef" * 4
FAKE_SIGNATURE: Final = "0x" + "ab" * 65
FAKE_WALLET: Final = "0x" + "12" * 20
POLLS: Final = 100
POLL_SECONDS: Final = 0.1

_SNAKE: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_CAMEL: Final = (
    "serviceType",
    "basePriceUsdc",
    "walletAddress",
    "messageType",
    "estimatedDeliveryHours",
    "providerAgent",
    "orderId",
    "priceUsdc",
    "paymentAddress",
    "contentHash",
    "contentType",
    "createdAt",
)


@dataclass
class MinimalClient:
    """One run. Without a wallet it is as it stands: transaction and signature are invented.

    With a wallet it pays and signs, and all else is the same. `failures` names for each check that
    did not pass what was wrong with it.
    """

    session: aiohttp.ClientSession
    base_url: str
    pause: Pause
    wallet: Wallet | None = None
    now: Clock = utc_clock
    failures: dict[int, str] = field(default_factory=dict)
    order_id: str = "ivxp-unknown"

    async def run(self) -> list[int]:
        """Return the numbers of the checks that passed."""
        catalog = await self._get("/ivxp/catalog")
        order = await self._checked(2, self._request)
        order_id = self.order_id = str(order["order_id"]) if order else self.order_id
        self._check(1, lambda: _check_catalog(catalog))
        await self._checked(3, lambda: self._deliver(order or {}))
        await self._checked(4, lambda: self._wait(order_id))
        download = await self._get(f"/ivxp/download/{order_id}")
        self._check(5, lambda: _check_download(download, order_id))
        unknown = await self._get("/ivxp/status/ivxp-nonexistent")
        self._check(6, lambda: _require(unknown.status == 404, str(unknown.status)))
        wrong = await self._post("/ivxp/catalog", {})
        self._check(7, lambda: _require(wrong.status == 405, str(wrong.status)))
        self._check(8, lambda: _check_no_camel_case(catalog.body.decode()))
        self._check(9, lambda: _require("T" in catalog.json()["timestamp"], "timestamp"))
        self._check(10, lambda: _require(len(catalog.json()["wallet_address"]) == 42, "wallet"))
        return [number for number in range(1, 11) if number not in self.failures]

    async def _request(self) -> dict[str, Any]:
        address = self.wallet.address if self.wallet else FAKE_WALLET
        answer = await self._post(
            "/ivxp/request",
            {
                "protocol": "IVXP/1.0",
                "message_type": "service_request",
                "timestamp": iso_aware(self.now()),
                "client_agent": {"name": "minimal-client", "wallet_address": address},
                "service_request": {
                    "type": "text_echo",
                    "description": "Hello from the minimal client",
                    "budget_usdc": 100,
                },
            },
        )
        _require(answer.status == 200, str(answer.status))
        body: dict[str, Any] = answer.json()
        _require(body["protocol"] == "IVXP/1.0" and body["message_type"], "protocol")
        _require(body["order_id"].startswith("ivxp-"), "order_id")
        _require_snake_case(body)
        _ = body["provider_agent"]["wallet_address"]
        _ = [body["quote"][name] for name in ("price_usdc", "payment_address", "network")]
        return body

    async def _deliver(self, order: dict[str, Any]) -> None:
        tx_hash, stamp = FAKE_TX, iso_aware(self.now())
        if self.wallet:
            micros = micros_of(order["quote"]["price_usdc"])
            tx_hash = await self.wallet.pay(order["quote"]["payment_address"], micros)
        text = f"Order: {order['order_id']} | Payment: {tx_hash} | Timestamp: {stamp}"
        proof = {
            "tx_hash": tx_hash,
            "from_address": self.wallet.address if self.wallet else FAKE_WALLET,
            "network": NETWORK,
        }
        answer = await self._post(
            "/ivxp/deliver",
            {
                "protocol": "IVXP/1.0",
                "message_type": "delivery_request",
                "timestamp": stamp,
                "order_id": order["order_id"],
                "payment_proof": proof,
                "signature": self.wallet.sign(text) if self.wallet else FAKE_SIGNATURE,
                "signed_message": text,
            },
        )
        _require(answer.status == 200, answer.body.decode())
        body = answer.json()
        _require((body["status"], body["order_id"]) == ("accepted", order["order_id"]), "answer")

    async def _wait(self, order_id: str) -> None:
        for _ in range(POLLS):
            answer = await self._get(f"/ivxp/status/{order_id}")
            _require(answer.status == 200, str(answer.status))
            body = answer.json()
            if body["status"] == "delivered":
                _require(body["order_id"] == order_id and body["content_hash"], "members")
                _require_snake_case(body)
                return
            await self.pause(POLL_SECONDS)
        raise AssertionError("not delivered")

    async def _get(self, path: str) -> Exchange:
        return await send(self.session, "GET", self.base_url + path, {"Accept": "*/*"})

    async def _post(self, path: str, body: object) -> Exchange:
        headers = {"Accept": "*/*", "Content-Type": "application/json"}
        return await send(self.session, "POST", self.base_url + path, headers, encode(body))

    async def _checked(self, number: int, step: Any) -> Any:  # noqa: ANN401 - any coroutine
        try:
            return await step()
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.failures[number] = repr(error)

    def _check(self, number: int, step: Callable[[], None]) -> None:
        try:
            step()
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.failures[number] = repr(error)


def _check_catalog(answer: Exchange) -> None:
    _require(answer.status == 200, str(answer.status))
    body = answer.json()
    _require(body["protocol"] == "IVXP/1.0" and body["message_type"], "protocol")
    _require(len(body["services"]) >= 1, "services")
    _require(body["wallet_address"].startswith("0x"), "wallet_address")
    _require_snake_case(body)


def _check_download(answer: Exchange, order_id: str) -> None:
    _require(answer.status == 200, str(answer.status))
    body = answer.json()
    _require(body["order_id"] == order_id and body["content_type"], "members")
    _require(body["content_hash"] == sha256(body["content"].encode()).hexdigest(), "content_hash")
    _require_snake_case(body)


def _check_no_camel_case(text: str) -> None:
    found = [word for word in _CAMEL if word in text]
    _require(not found, str(found))


def _require_snake_case(value: object) -> None:
    bad = [key for key in _keys(value) if not _SNAKE.fullmatch(key)]
    _require(not bad, str(bad))


def _keys(value: object) -> Iterator[str]:
    """Yield every key at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _require(truth: object, problem: str) -> None:
    if not truth:
        raise AssertionError(problem)
