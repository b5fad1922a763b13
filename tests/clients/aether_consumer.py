"""The marketplace SDK's consumer: searches, talks, pays with a signed transfer, reviews."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.clients.aether_wire import Json, SolanaWallet, Wire, member, rows

Handler = Callable[[Json], Awaitable[None]]
SignPayment = Callable[[str, float], Awaitable[str]]
"""Returns a header with a freshly signed transfer of so many USDC to a wallet."""

_ATHR_PART: Final = 0.75


@dataclass
class Consumer:
    """One program that buys. Amounts are floats here, as they are in the SDK."""

    wire: Wire
    wallet: SolanaWallet
    marketplace: str
    sign_payment: SignPayment

    async def search(self, **filters: object) -> list[Json]:
        return rows(await self.wire.get("/agents/search", **filters), "agents")

    async def agent(self, agent_id: str) -> Json:
        found: Json = await self.wire.get(f"/agents/{agent_id}")
        return found

    async def start_conversation(
        self, agent_id: str, text: str, attachments: list[str] | None = None
    ) -> Conversation:
        body = {
            "agentId": agent_id,
            "clientWallet": self.wallet.address,
            "clientType": "agent",
            "initialMessage": text,
            "attachments": attachments,
        }
        found = await self.wire.post("/conversations", body)
        return Conversation(self, str(found["conversation"]["id"]))

    async def conversation(self, conversation_id: str) -> Conversation:
        """Take up a conversation again; the reply is the conversation itself."""
        found = await self.wire.get(f"/conversations/{conversation_id}")
        return Conversation(self, str(found["id"]))

    async def conversations(self) -> list[Json]:
        found = await self.wire.get("/conversations", wallet=self.wallet.address)
        return rows(found, "conversations")

    async def order(self, order_id: str) -> Json:
        found: Json = await self.wire.get(f"/orders/{order_id}")
        return found

    async def orders(self, status: str | None = None) -> list[Json]:
        query = {"wallet": self.wallet.address, "status": status}
        return rows(await self.wire.get("/orders", **query), "orders")


@dataclass
class Conversation:
    """One conversation as its client sees it. `tick` is one firing of its timer."""

    consumer: Consumer
    id: str
    swallowed: list[Exception] = field(default_factory=list)
    """What failed in a poll; the SDK says nothing of it."""
    _handlers: dict[str, list[Handler]] = field(default_factory=dict)
    _left_running: list[asyncio.Task[None]] = field(default_factory=list)

    async def send(self, text: str, attachments: list[str] | None = None) -> None:
        body = {"from": self._wallet, "message": text, "attachments": attachments}
        await self._wire.post(f"/conversations/{self.id}/messages", body)

    async def messages(self, limit: int = 50) -> list[Json]:
        found = await self._wire.get(f"/conversations/{self.id}/messages", limit=limit)
        return rows(found, "messages")

    async def accept_order(
        self, order_id: str, method: Literal["USDC", "ATHR", "usdc", "athr"] = "USDC"
    ) -> Json:
        """Pay: read the price, sign a transfer of it, hand the transfer in.

        Each call signs anew, so a second try after a lost reply brings another transfer.
        """
        price = float((await self.consumer.order(order_id))["price"])
        amount = price * _ATHR_PART if method.upper() == "ATHR" else price
        header = await self.consumer.sign_payment(self.consumer.marketplace, amount)
        body = {"clientWallet": self._wallet, "paymentMethod": method, "paymentHeader": header}
        accepted: Json = await self._wire.post(f"/orders/{order_id}/accept", body)
        return accepted

    async def decline_order(self, order_id: str, reason: str | None = None) -> None:
        body = {"clientWallet": self._wallet, "reason": reason}
        await self._wire.post(f"/orders/{order_id}/decline", body)
        if reason:
            await self.send(reason)

    async def counter_offer(
        self,
        order_id: str,
        text: str,
        price: float | None = None,
        delivery_minutes: int | None = None,
    ) -> None:
        body = {
            "clientWallet": self._wallet,
            "price": price,
            "deliveryTime": delivery_minutes,
            "message": text,
        }
        await self._wire.post(f"/orders/{order_id}/counter-offer", body)
        await self.send(text)

    async def review(self, order_id: str, rating: int, comment: str | None = None) -> None:
        body = {"clientWallet": self._wallet, "rating": rating, "comment": comment}
        await self._wire.post(f"/orders/{order_id}/review", body)

    def on(self, event: Literal["message", "delivery"], handler: Handler) -> None:
        """Listen; with the first handler of either kind the timer begins to ask for both."""
        self._handlers.setdefault(event, []).append(handler)

    def tick(self) -> asyncio.Task[None]:
        """Fire the timer: a poll begins, whether or not the one before has ended."""
        assert self._handlers, "nothing listens, so no timer runs"
        return asyncio.create_task(self._poll())

    async def settled(self) -> None:
        """Wait for the handlers that the polls left running; what one throws comes out here."""
        while self._left_running:
            left, self._left_running = self._left_running, []
            await asyncio.gather(*left)

    @property
    def _wire(self) -> Wire:
        return self.consumer.wire

    @property
    def _wallet(self) -> str:
        return self.consumer.wallet.address

    async def _poll(self) -> None:
        try:
            for kind, path in (("message", "messages"), ("delivery", "deliveries")):
                asked = f"/conversations/{self.id}/{path}/new"
                found = await self._wire.get(asked, wallet=self._wallet)
                self._hand_out(kind, rows(found, path))
        except Exception as error:  # noqa: BLE001 - so the SDK: what fails in a poll is not told
            self.swallowed.append(error)

    def _hand_out(self, kind: str, found: list[Any]) -> None:
        """Call the handlers and wait for none; what nobody listens for is gone."""
        for each in found:
            for handler in self._handlers.get(kind, []):
                self._left_running.append(asyncio.create_task(_run(handler, each)))


async def _run(handler: Handler, each: Json) -> None:
    await handler(each)


def paid(accepted: Json) -> tuple[str, object, object]:
    """Return the three members that the SDK reads of an accepted order."""
    names = ("transactionSignature", "agentAmount", "commissionAmount")
    signature, agent, commission = (member(accepted, name) for name in names)
    assert isinstance(signature, str)
    assert signature
    assert agent is not None
    assert commission is not None
    return signature, agent, commission
