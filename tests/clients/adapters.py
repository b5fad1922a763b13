"""The A2A and LangGraph adapters: notice by one endpoint profile, status and content by the other.

Their signed text carries a nonce, and nothing else in the message does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote as percent_encoded

import aiohttp

from tests.clients import checks as c
from tests.clients import sdk_answers
from tests.clients.sdk_answers import PROTOCOL
from tests.clients.wallet import Clock, Pause, Wallet, iso_millis, micros_of, utc_clock
from tests.clients.wire import Exchange, encode, send

MAX_POLLS: Final = 20
POLL_SECONDS: Final = 1.0
END: Final = frozenset({"delivered", "delivery_failed"})


class AdapterError(Exception):
    """A step of the adapter failed; `status` and `message` are the answer's."""

    def __init__(self, answer: Exchange) -> None:
        super().__init__(f"{answer.status} {answer.body.decode(errors='replace')}")
        self.status = answer.status
        self.body = answer.json()


@dataclass
class AdapterClient:
    """One agent with one wallet. `nonce` makes a fresh one for every notice."""

    session: aiohttp.ClientSession
    base_url: str
    wallet: Wallet
    pause: Pause
    nonce: Callable[[], str]
    agent: str = "A2A client"
    now: Clock = utc_clock

    async def get_catalog(self) -> dict[str, Any]:
        return sdk_answers.catalog(await self._call("GET", "/ivxp/catalog"))

    async def request_quote(
        self, service: str, description: str, budget_usdc: float
    ) -> dict[str, Any]:
        body = {
            **self._head("service_request"),
            "client_agent": {"name": self.agent, "wallet_address": self.wallet.address},
            "service_request": {
                "type": service,
                "description": description,
                "budget_usdc": budget_usdc,
            },
        }
        return sdk_answers.quote(await self._call("POST", "/ivxp/request", body))

    async def pay(self, quote: dict[str, Any]) -> str:
        terms = quote["quote"]
        return await self.wallet.pay(terms["payment_address"], micros_of(terms["price_usdc"]))

    def notice(self, quote: dict[str, Any], tx_hash: str, nonce: str | None = None) -> Any:  # noqa: ANN401 - JSON
        order_id, head = quote["order_id"], self._head("delivery_request")
        text = (
            f"IVXP-DELIVER | Order: {order_id} | Payment: {tx_hash}"
            f" | Nonce: {nonce or self.nonce()} | Timestamp: {head['timestamp']}"
        )
        return {
            **head,
            "order_id": order_id,
            "payment_proof": {
                "tx_hash": tx_hash,
                "from_address": self.wallet.address,
                "network": quote["quote"]["network"],
            },
            "signature": self.wallet.sign(text),
            "signed_message": text,
        }

    async def deliver(self, notice: dict[str, Any]) -> dict[str, Any]:
        body = await self._call("POST", "/ivxp/deliver", notice)
        required: dict[str, c.Check] = {
            "status": c.exactly("accepted"),
            "order_id": c.exactly(notice["order_id"]),
            "message": c.text,
        }
        return c.members(body, "acceptance", required)

    async def wait_for_end(self, order_id: str) -> dict[str, Any]:
        for _ in range(MAX_POLLS):
            status = sdk_answers.status(await self._call("GET", _order(order_id)))
            if status["status"] in END:
                return status
            await self.pause(POLL_SECONDS)
        raise TimeoutError(order_id)

    async def download(self, order_id: str) -> dict[str, Any]:
        body = await self._call("GET", _order(order_id) + "/deliverable")
        return sdk_answers.deliverable(body, order_id)

    def _head(self, message_type: str) -> dict[str, Any]:
        stamp = iso_millis(self.now())
        return {"protocol": PROTOCOL, "message_type": message_type, "timestamp": stamp}

    async def _call(self, method: str, path: str, body: object = None) -> object:
        headers = {"Accept": "*/*", "Content-Type": "application/json"}
        data = None if body is None else encode(body)
        answer = await send(self.session, method, self.base_url + path, headers, data)
        if not answer.ok:
            raise AdapterError(answer)
        return answer.json()


def _order(order_id: str) -> str:
    return f"/ivxp/orders/{percent_encoded(order_id, safe='')}"
