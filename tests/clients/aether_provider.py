"""The marketplace SDK's provider: registers, answers messages, proposes, delivers what was paid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.clients.aether_wire import ApiError, Json, SolanaWallet, Wire, member, rows

MessageHandler = Callable[[Json, Json], Awaitable[None]]
PaidHandler = Callable[[Json], Awaitable[None]]

_KNOWN: Final = ("already have an agent", "already registered")

PROFILE: Final[Json] = {
    "name": "Translator",
    "tagline": "fast and plain",
    "description": "translates texts of every length",
    "categories": ["Translation", "Writing"],
    "basePrice": 0.1,
    "skills": ["French"],
}
SERVICES: Final[list[Json]] = [
    {
        "title": "short text",
        "description": "up to 500 words",
        "price": 0.25,
        "deliveryTime": 5,
        "examples": ["a letter", "a page"],
    },
    {
        "title": "long text",
        "description": "up to 5000 words",
        "price": 2.03,
        "priceAthr": 1.5,
        "deliveryTime": 30,
    },
]


@dataclass
class Provider:
    """One running provider. `tick` is one firing of its timer, which waits for nothing."""

    wire: Wire
    wallet: SolanaWallet
    profile: Json = field(default_factory=lambda: dict(PROFILE))
    services: list[Json] = field(default_factory=lambda: [dict(each) for each in SERVICES])
    on_message: MessageHandler | None = None
    on_order_paid: PaidHandler | None = None
    agent_id: str | None = None
    polls_by: Literal["agent", "wallet"] = "agent"
    logged: list[Exception] = field(default_factory=list)
    """What the SDK writes to the console and forgets."""
    swallowed: list[Exception] = field(default_factory=list)
    """What failed in a poll; the SDK says nothing of it."""

    async def register(self, endpoint: str = "https://agent.example", stake: float = 1000) -> str:
        """Register, or find the agent that is there already; then add each service."""
        body = {**self.profile, **self._registration(endpoint, stake)}
        try:
            found = await self.wire.post("/agents/register", body)
            self.agent_id = member(found, "agentId")
        except ApiError as error:
            self.agent_id = await self._existing(error)
        for service in self.services:
            await self._add(service)
        assert self.agent_id is not None, "the SDK goes on without an agentId, and polls by wallet"
        return self.agent_id

    async def register_nested(self, endpoint: str = "https://agent.example") -> str:
        """Register as older versions do: profile and services inside one body."""
        body = {"profile": self.profile, "services": self.services}
        found = await self.wire.post(
            "/agents/register", {**body, **self._registration(endpoint, 1000)}
        )
        return str(member(found, "agentId"))

    async def update_profile(self, **updates: object) -> None:
        said = {"wallet": self.wallet.address, "updates": updates}
        await self.wire.put("/agents/profile", said)
        self.profile |= updates

    async def update_services(self, services: list[Json]) -> None:
        """Replace the services; here a delivery time stays in minutes."""
        said = {"wallet": self.wallet.address, "services": services}
        await self.wire.put("/agents/services", said)
        self.services = services

    async def reply(
        self, conversation: str, text: str, attachments: list[str] | None = None
    ) -> None:
        body = {"from": self.wallet.address, "message": text, "attachments": attachments}
        await self.wire.post(f"/conversations/{conversation}/messages", body)

    async def create_order(
        self,
        conversation: str,
        description: str,
        price: float,
        delivery_minutes: int,
        **more: object,
    ) -> Json:
        """Propose an order; the reply is handed on as it is."""
        body = {
            "conversationId": conversation,
            "agentWallet": self.wallet.address,
            "description": description,
            "price": price,
            "deliveryTime": delivery_minutes,
            **more,
        }
        made: Json = await self.wire.post("/orders", body)
        assert made["orderId"]
        return made

    async def deliver(
        self,
        order_id: str,
        result: object,
        message: str | None = None,
        attachments: list[str] | None = None,
    ) -> None:
        body = {
            "agentWallet": self.wallet.address,
            "result": result,
            "message": message,
            "attachments": attachments,
        }
        await self.wire.post(f"/orders/{order_id}/deliver", body)

    async def stats(self) -> Json:
        found: Json = await self.wire.get("/agents/stats", wallet=self.wallet.address)
        return found

    def tick(self) -> asyncio.Task[None]:
        """Fire the timer: a poll begins, whether or not the one before has ended."""
        return asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        await self._messages()
        await self._orders()

    async def _messages(self) -> None:
        if self.on_message is None:
            return
        try:
            found = await self.wire.get("/agents/messages/new", **self._me())
            for each in rows(found, "messages"):
                await self.on_message(each["conversation"], each["message"])
        except Exception as error:  # noqa: BLE001 - so the SDK: what fails in a poll is not told
            self.swallowed.append(error)

    async def _orders(self) -> None:
        if self.on_order_paid is None:
            return
        try:
            found = await self.wire.get("/agents/orders/paid", **self._me())
            for order in rows(found, "orders"):
                await self.on_order_paid(order)
        except Exception as error:  # noqa: BLE001 - so the SDK: what fails in a poll is not told
            self.swallowed.append(error)

    def _me(self) -> dict[str, str]:
        if self.agent_id and self.polls_by == "agent":
            return {"agentId": self.agent_id}
        return {"wallet": self.wallet.address}

    def _registration(self, endpoint: str, stake: float) -> Json:
        return {"endpoint": endpoint, "ownerWallet": self.wallet.address, "stakeAmount": stake}

    async def _existing(self, refused: ApiError) -> str:
        """Return the id of the agent that the refusal speaks of, or throw the refusal."""
        message = member(refused.data, "message")
        # The SDK calls `.includes`: a list of texts would miss, and no text at all would throw.
        if not isinstance(message, str) or not any(words in message for words in _KNOWN):
            raise refused
        query = {"wallet": self.wallet.address, "name": self.profile["name"]}
        try:
            found = await self.wire.get("/agents/by-wallet-and-name", **query)
        except ApiError:
            raise refused from None
        return str(found["id"])

    async def _add(self, service: Json) -> None:
        """Add a service: minutes become seconds, examples one text; an error is only logged."""
        examples = service.get("examples")
        body = {
            "ownerWallet": self.wallet.address,
            "name": service["title"],
            "description": service["description"],
            "price": service["price"],
            "priceAthr": service.get("priceAthr"),
            "deliveryTime": service["deliveryTime"] * 60,
            "requirements": "\n".join(examples) if examples else None,
            "imageUrl": service.get("imageUrl"),
        }
        try:
            await self.wire.post("/agents/services", body)
        except ApiError as error:
            self.logged.append(error)
