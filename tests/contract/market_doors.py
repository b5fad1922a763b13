"""Every route of the marketplace: whose it is, and the request that opens it for the right one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.clients.aether_wire import Json, SolanaWallet
from tests.contract.market_kit import AGENT, CLIENT, MARKETPLACE, Market, talking

Side = Literal["agent", "client", "both", "self", "public"]
"""`both`: either side of the conversation; `self`: any wallet, for itself; `public`: anybody."""

STRANGER: Final = SolanaWallet("a stranger")
RIVAL: Final = SolanaWallet("another agent's owner")
PRICE: Final = 0.25
_MOUNT: Final = re.compile(r"^(/t/\{[a-z_]+\})?(/api)?(?=/)")
_PLACE: Final = re.compile(r"\{[^}]+\}")


@dataclass
class World:
    """A marketplace in strict mode where something is to be had behind every door."""

    market: Market
    agent: str
    rival: str
    talk: str
    orders: dict[str, str] = field(default_factory=dict)
    header: str = ""


async def furnished(m: Market) -> World:
    """Fill a marketplace: unread mail for both sides, and an order at each stage."""
    provider, talk = await talking(m)
    rival = await m.provider(RIVAL)
    world = World(m, str(provider.agent_id), await rival.register(), talk.id)
    await provider.reply(talk.id, "yes?")
    for stage in ("accept", "decline", "counter-offer", "cancel", "see"):
        made = await provider.create_order(talk.id, f"to {stage}", PRICE, 30)
        world.orders[stage] = made["orderId"]
    for stage in ("deliver", "review"):
        world.orders[stage], _ = await m.paid_order(provider, talk, PRICE)
    await provider.deliver(world.orders["review"], "done")
    # Used at last when all routes were tried: on a slow machine that takes longer than it holds.
    world.header = await m.tills[CLIENT.name].sign(MARKETPLACE.address, PRICE, longer_s=86_400)
    await m.service.views_have(m.service.position)
    return world


@dataclass(frozen=True)
class Ask:
    """One request; `claim` names the member or parameter that says who asks."""

    path: str
    claim: str = ""
    query: Json = field(default_factory=dict)
    body: Json | None = None

    def claiming(self, wallet: str | None) -> Ask:
        """Return the request with this wallet as the one who asks, or with none."""
        said = {self.claim: wallet} if self.claim and wallet is not None else {}
        if self.body is None:
            return Ask(self.path, self.claim, {**self.query, **said})
        return Ask(self.path, self.claim, self.query, {**self.body, **said})


@dataclass(frozen=True)
class Door:
    """A route's line: whose it is, and how it is opened."""

    side: Side
    ask: Callable[[World], Ask]
    whose: SolanaWallet | None = None

    @property
    def owner(self) -> SolanaWallet:
        """The one it opens to."""
        return self.whose or (AGENT if self.side in {"agent", "public"} else CLIENT)

    @property
    def across(self) -> SolanaWallet:
        """The other side of the same conversation."""
        return CLIENT if self.owner == AGENT else AGENT


def key_of(method: str, path: str) -> tuple[str, str]:
    """Return a route's line in the table: without its mount and without names of placeholders."""
    return method, _PLACE.sub("{}", _MOUNT.sub("", path))


def _order(stage: str, act: str, claim: str, **body: object) -> Callable[[World], Ask]:
    return lambda w: Ask(f"/orders/{w.orders[stage]}/{act}", claim, body=body)


PROFILE: Final[Json] = {
    "name": "A second name",
    "tagline": "new",
    "description": "another agent of the same owner",
    "categories": ["Writing"],
    "basePrice": 1,
    "endpoint": "https://agent.example",
    "stakeAmount": 1,
}
SERVICE: Final[Json] = {"name": "work", "description": "of any kind", "price": 1}

DOORS: Final[dict[tuple[str, str], Door]] = {
    ("GET", "/agents/search"): Door("public", lambda _: Ask("/agents/search")),
    ("GET", "/agents/{}"): Door("public", lambda w: Ask(f"/agents/{w.agent}")),
    ("GET", "/agents/{}/stats"): Door("agent", lambda w: Ask(f"/agents/{w.agent}/stats", "wallet")),
    ("GET", "/agents/by-wallet-and-name"): Door(
        "self",
        lambda _: Ask("/agents/by-wallet-and-name", "wallet", {"name": "Translator"}),
        AGENT,
    ),
    ("GET", "/agents/stats"): Door("self", lambda _: Ask("/agents/stats", "wallet"), AGENT),
    ("GET", "/conversations/{}"): Door("both", lambda w: Ask(f"/conversations/{w.talk}")),
    ("GET", "/conversations"): Door("self", lambda _: Ask("/conversations", "wallet")),
    ("GET", "/conversations/{}/messages"): Door(
        "both", lambda w: Ask(f"/conversations/{w.talk}/messages", query={"limit": 50})
    ),
    ("GET", "/orders/{}"): Door("both", lambda w: Ask(f"/orders/{w.orders['see']}")),
    ("GET", "/orders"): Door("self", lambda _: Ask("/orders", "wallet")),
    ("GET", "/agents/messages/new"): Door(
        "agent", lambda w: Ask("/agents/messages/new", "wallet", {"agentId": w.agent})
    ),
    ("GET", "/agents/orders/paid"): Door(
        "agent", lambda w: Ask("/agents/orders/paid", "wallet", {"agentId": w.agent})
    ),
    ("GET", "/conversations/{}/messages/new"): Door(
        "client", lambda w: Ask(f"/conversations/{w.talk}/messages/new", "wallet")
    ),
    ("GET", "/conversations/{}/deliveries/new"): Door(
        "client", lambda w: Ask(f"/conversations/{w.talk}/deliveries/new", "wallet")
    ),
    ("GET", "/conversations/{}/deliveries"): Door(
        "client", lambda w: Ask(f"/conversations/{w.talk}/deliveries", "wallet")
    ),
    ("POST", "/conversations/{}/messages"): Door(
        "both",
        lambda w: Ask(f"/conversations/{w.talk}/messages", "from", body={"message": "a word"}),
    ),
    ("POST", "/conversations"): Door(
        "self",
        lambda w: Ask(
            "/conversations",
            "clientWallet",
            body={"agentId": w.rival, "clientType": "agent", "initialMessage": "hello"},
        ),
    ),
    ("POST", "/orders"): Door(
        "agent",
        lambda w: Ask(
            "/orders",
            "agentWallet",
            body={
                "conversationId": w.talk,
                "description": "more",
                "price": PRICE,
                "deliveryTime": 30,
            },
        ),
    ),
    ("POST", "/orders/{}/counter-offer"): Door(
        "client", _order("counter-offer", "counter-offer", "clientWallet", price=1, message="less")
    ),
    ("POST", "/orders/{}/decline"): Door("client", _order("decline", "decline", "clientWallet")),
    ("POST", "/orders/{}/cancel"): Door("both", _order("cancel", "cancel", "wallet")),
    ("POST", "/orders/{}/accept"): Door(
        "client",
        lambda w: Ask(
            f"/orders/{w.orders['accept']}/accept",
            "clientWallet",
            body={"paymentMethod": "USDC", "paymentHeader": w.header},
        ),
    ),
    ("POST", "/orders/{}/deliver"): Door(
        "agent", _order("deliver", "deliver", "agentWallet", result={"text": "stolen"})
    ),
    ("POST", "/orders/{}/review"): Door(
        "client", _order("review", "review", "clientWallet", rating=1)
    ),
    ("PATCH", "/agents/{}"): Door(
        "agent",
        lambda w: Ask(f"/agents/{w.agent}", "wallet", body={"updates": {"tagline": "patched"}}),
    ),
    ("PUT", "/agents/profile"): Door(
        "agent",
        lambda w: Ask(
            "/agents/profile",
            "wallet",
            body={"agentId": w.agent, "updates": {"tagline": "taken over"}},
        ),
    ),
    ("PUT", "/agents/services"): Door(
        "agent",
        lambda w: Ask(
            "/agents/services",
            "wallet",
            body={"agentId": w.agent, "services": [{**SERVICE, "deliveryTime": 5}]},
        ),
    ),
    ("POST", "/agents/services"): Door(
        "agent",
        lambda w: Ask(
            "/agents/services",
            "ownerWallet",
            body={**SERVICE, "agentId": w.agent, "deliveryTime": 300},
        ),
    ),
    ("POST", "/agents/register"): Door(
        "self", lambda _: Ask("/agents/register", "ownerWallet", body=PROFILE)
    ),
    ("DELETE", "/agents/{}"): Door("agent", lambda w: Ask(f"/agents/{w.agent}", "wallet", body={})),
}
"""One line a route; what changes something stands last, so that all can be opened in turn."""
