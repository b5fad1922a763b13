"""A marketplace in this process, and the SDK's provider and consumer with their ways of asking."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import base58
from solders.keypair import Keypair

from api.keys import LEDGER
from ledger.service import Clock, system_clock
from tests.clients.aether_consumer import Consumer, Conversation
from tests.clients.aether_provider import Provider
from tests.clients.aether_wire import (
    Json,
    SolanaWallet,
    Wire,
    sign_in,
    with_credentials,
    with_token,
)
from tests.contract.kit import Service, serving
from tests.support.solana import USDC, LocalSolana, signed_payment

Mode = Literal["open", "credentials", "path", "headers"]
MODES: Final[list[Mode]] = ["open", "credentials", "path", "headers"]
HOW: Final[dict[Mode, str]] = {
    "open": "open",
    "credentials": "token",
    "path": "token",
    "headers": "signature",
}
"""What the ledger records of how the marketplace knew who asked."""

MARKETPLACE: Final = SolanaWallet("the marketplace")
AGENT: Final = SolanaWallet("the agent's owner")
CLIENT: Final = SolanaWallet("the client")
MICROS: Final = 1_000_000
MOST_ROUNDS: Final = 12


@dataclass
class Till:
    """The client's wallet software: signs a new transfer each time it is asked."""

    wallet: SolanaWallet
    clock: Clock
    node: LocalSolana | None = None
    headers: list[str] = field(default_factory=list)

    async def sign(self, recipient: str, amount: float, longer_s: int = 0) -> str:
        """Return a header; each has a block hash of its own, so no two transfers are the same.

        It is good for as long as the SDK makes it, or that much longer.
        """
        keypair = Keypair.from_bytes(self.wallet.secret)
        now = self.clock() // 1000 + longer_s
        header = signed_payment(keypair, recipient, USDC, amount, self._blockhash(), now=now)
        self.headers.append(header)
        return header

    def _blockhash(self) -> str:
        if self.node is not None:
            return self.node.blockhash
        return SolanaWallet(f"block {len(self.headers)} of {self.wallet.name}").address


@dataclass
class Market:
    """A running marketplace, and how its programs reach it."""

    service: Service
    mode: Mode
    prefix: str = ""
    node: LocalSolana | None = None
    tills: dict[str, Till] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    async def token(self, wallet: SolanaWallet, scope: str | None = "marketplace") -> str:
        """Return the wallet's token of a scope; it signs in once for each."""
        key = f"{wallet.name} {scope}"
        if key not in self._tokens:
            found = await sign_in(self.service.session, self.service.url, wallet, scope)
            self._tokens[key] = found
        return self._tokens[key]

    async def wire(self, wallet: SolanaWallet, mode: Mode | None = None) -> Wire:
        """Return a way to the marketplace that proves the wallet as the mode says."""
        url, session = self.service.url, self.service.session
        clock = self.service.app[LEDGER].clock
        match mode or self.mode:
            case "open":
                return Wire(session, url + self.prefix)
            case "credentials":
                base = with_credentials(url, wallet.address, await self.token(wallet))
                return Wire(session, base + self.prefix)
            case "path":
                return Wire(session, with_token(url, await self.token(wallet), self.prefix))
            case "headers":
                return Wire(session, url + self.prefix, signer=wallet, now_ms=clock)

    async def provider(self, wallet: SolanaWallet = AGENT) -> Provider:
        return Provider(await self.wire(wallet), wallet)

    async def consumer(self, wallet: SolanaWallet = CLIENT) -> Consumer:
        clock = self.service.app[LEDGER].clock
        till = self.tills.setdefault(wallet.name, Till(wallet, clock, self.node))
        wire = await self.wire(wallet)
        return Consumer(wire, wallet, MARKETPLACE.address, till.sign)

    async def feed(self, wallet: SolanaWallet, party: str = "") -> list[Json]:
        """Return a native feed of a wallet, read whole."""
        path = f"/v1/feeds/{party or wallet.address}/events?limit=1000"
        body = await self.native(wallet, "GET", path)
        events: list[Json] = body["events"]
        return events

    async def native(
        self, wallet: SolanaWallet, method: str, path: str, body: object = None
    ) -> Json:
        """Ask the service's own API in a wallet's name."""
        headers = {"Authorization": f"Bearer {await self.token(wallet, None)}"}
        async with self.service.session.request(
            method, self.service.url + path, json=body, headers=headers
        ) as response:
            found: Json = await response.json()
            assert response.status in {200, 201}, found
            return found

    async def paid_order(
        self, provider: Provider, talk: Conversation, price: float = 0.25
    ) -> tuple[str, Json]:
        """Propose an order and pay it; return its id and the answer to the payment."""
        made = await provider.create_order(talk.id, "a translation", price, 30)
        return str(made["orderId"]), await talk.accept_order(str(made["orderId"]))


@asynccontextmanager
async def market(
    folder: Path,
    mode: Mode = "open",
    prefix: str = "",
    clock: Clock = system_clock,
    node: LocalSolana | None = None,
    **changes: object,
) -> AsyncIterator[Market]:
    """Run a marketplace; without a node payments are verified offline and stay signed."""
    auth = "open" if mode == "open" else "strict"
    settings: dict[str, Any] = {
        "aether_auth": auth,
        "solana_payment_address": MARKETPLACE.address,
        **changes,
    }
    if node is not None:
        settings["solana_rpc_url"] = node.url
        node.fund(MARKETPLACE.address)
        node.fund(CLIENT.address, 100 * MICROS)
    async with serving(folder, clock=clock, **settings) as service:
        yield Market(service, mode, prefix, node)


async def talking(
    m: Market, first: str = "hello", *, messages: int = 0
) -> tuple[Provider, Conversation]:
    """Return a registered provider and a client who began to talk to it."""
    provider, consumer = await m.provider(), await m.consumer()
    talk = await consumer.start_conversation(await provider.register(), first)
    for number in range(messages):
        await talk.send(f"message {number}")
    return provider, talk


async def rounds_until(done: Callable[[], bool], *ticks: Callable[[], Awaitable[Any]]) -> None:
    """Fire all timers at once, round by round, until something is so."""
    for _ in range(MOST_ROUNDS):
        await asyncio.gather(*(tick() for tick in ticks))
        if done():
            return
    raise AssertionError(f"not so after {MOST_ROUNDS} rounds of polls")


def more_than_once(ids: list[str]) -> dict[str, int]:
    """Return what was seen more than once, and how often."""
    return {each: count for each, count in Counter(ids).items() if count > 1}


def signature_in(transaction: bytes) -> str:
    """Return the first signature of a serialized transaction, in base58."""
    return base58.b58encode(transaction[1:65]).decode()


def micros(amount: object) -> int:
    """Return micro-units of an amount in a reply."""
    assert isinstance(amount, int | float)
    return round(amount * MICROS)
