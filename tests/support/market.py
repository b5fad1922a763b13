"""A marketplace with one agent and one client, driven by plain requests.

For tests of what is behind it: claims pass unproven (`aether_auth="open"`). Tests of who may do
what have clients of their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.solana import USDC, LocalSolana, signed_payment, wallet_named

Json = dict[str, Any]
MARKET = str(wallet_named("marketplace").pubkey())
AGENT = str(wallet_named("agent").pubkey())
CLIENT = str(wallet_named("client").pubkey())
PAYER = wallet_named("payer")


def market_settings(solana: LocalSolana | None = None, **changes: object) -> dict[str, Any]:
    """Return the settings of an open marketplace; with a chain it settles."""
    node = {"solana_rpc_url": solana.url} if solana is not None else {}
    return {"aether_auth": "open", "solana_payment_address": MARKET, **node, **changes}


@dataclass
class Stall:
    """An agent and a client at a marketplace's URL."""

    session: aiohttp.ClientSession
    url: str
    agent: str = ""
    talk: str = ""

    async def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        async with self.session.request(method, self.url + path, json=body) as response:
            return response.status, await response.json()

    async def done(self, method: str, path: str, body: Json | None = None) -> Json:
        status, answer = await self.call(method, path, body)
        assert status == 200, (method, path, status, answer)
        return answer

    async def open(self, name: str = "Scribe") -> Stall:
        registered = await self.done(
            "POST", "/agents/register", {"name": name, "ownerWallet": AGENT}
        )
        self.agent = str(registered["agentId"])
        started = await self.done(
            "POST",
            "/conversations",
            {"agentId": self.agent, "clientWallet": CLIENT, "initialMessage": "hello"},
        )
        self.talk = str(started["conversation"]["id"])
        return self

    async def offer(self, price: float = 2.01) -> str:
        body = {
            "conversationId": self.talk,
            "agentWallet": AGENT,
            "description": "a page",
            "price": price,
            "deliveryTime": 5,
        }
        return str((await self.done("POST", "/orders", body))["orderId"])

    async def accept(self, order_id: str, header: str, method: str = "USDC") -> tuple[int, Json]:
        body = {"clientWallet": CLIENT, "paymentMethod": method, "paymentHeader": header}
        return await self.call("POST", f"/orders/{order_id}/accept", body)

    async def order(self, order_id: str) -> Json:
        return await self.done("GET", f"/orders/{order_id}")

    async def paid(self) -> list[str]:
        """Poll for paid orders, as the agent does."""
        found = await self.done("GET", f"/agents/orders/paid?agentId={self.agent}")
        return [order["id"] for order in found["orders"]]

    async def deliver(self, order_id: str, result: object = "done") -> tuple[int, Json]:
        body = {"agentWallet": AGENT, "result": result}
        return await self.call("POST", f"/orders/{order_id}/deliver", body)


def pay(
    solana: LocalSolana | None, price: float = 2.01, blockhash: str = "", ahead_ms: int = 0
) -> str:
    """Return a payment header as the SDK makes it, signed now or that much later."""
    known = blockhash or (solana.blockhash if solana is not None else "1" * 32)
    return signed_payment(
        PAYER, MARKET, USDC, price, known, now=int(time.time()) + ahead_ms // 1000
    )
