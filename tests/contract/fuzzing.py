"""What a fuzzer needs to get past the door: real orders, signed messages and tokens."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID

import requests
from schemathesis import BaseSchema

from api.keys import LEDGER, TOKENS
from api.routes import Route
from scripts.buyer import Buyer, utc_now
from tests.contract.callers import AUDITOR, OPERATOR, PARTY, WORKER
from tests.contract.kit import NETWORK, Service
from tests.contract.market_doors import DOORS, Ask, key_of
from tests.contract.market_doors import World as Doors
from tests.support.chain import account_named

Body = dict[str, Any]
PROTOCOL = {"protocol": "IVXP/1.0"}
READ = "/ivxp/orders/{order_id}"
"""A path that is only read, so its orders may be any."""


@dataclass(frozen=True)
class World:
    """A running service with orders of one buyer, and its callers."""

    service: Service
    schema: BaseSchema
    buyer: Buyer
    arbiter: Buyer
    orders: dict[str, list[str]]
    """For each path with an order its own, so that one route does not use up another's."""
    session: requests.Session
    event_id: str = "1-" + "0" * 64
    """Of an event that the chain caused, in an order of the buyer."""
    market: Doors | None = None
    """The marketplace of the same service."""

    def token(self, path: str, random: Random) -> str:
        """Return a fresh token, mostly of somebody who may do a lot at a path."""
        name = random.choice([OPERATOR, OPERATOR, OPERATOR, WORKER, WORKER, AUDITOR, PARTY])
        wallet = account_named(name).address.lower()
        if path.startswith("/v1/events/") and random.random() < 0.8:
            wallet = self.buyer.address.lower()
        app = self.service.app
        token, _ = app[TOKENS].issue(wallet, app[LEDGER].clock())
        return token

    def cursor_for(self, path: str) -> str:
        """Return the name of the cursor that is used at a path, so that none moves another's."""
        return "fuzz" + path.rpartition("/")[2].strip("{}")

    def order_for(self, path: str, random: Random) -> str:
        """Return an order with which something can be done at a path, or now and then another."""
        others = self.orders[READ]
        return random.choice(self.orders.get(path, others) if random.random() < 0.85 else others)

    def opening(self, route: Route) -> tuple[dict[str, str], Ask]:
        """Return the parts of a marketplace route's path, and a request that would be accepted."""
        assert self.market is not None
        door = DOORS[key_of(route.method, route.path)]
        ask = door.ask(self.market).claiming(door.owner.address)
        places = zip(route.path.split("/"), ask.path.split("/"), strict=True)
        return {name.strip("{}"): said for name, said in places if name.startswith("{")}, ask

    def owner(self, route: Route) -> str:
        """Return the wallet that a marketplace route opens to."""
        return DOORS[key_of(route.method, route.path)].owner.address

    def proof(self, route: Route, random: Random) -> str:
        """Return an `Authorization` for a marketplace route, mostly of whom it opens to."""
        door = DOORS[key_of(route.method, route.path)]
        wallet = random.choice([*[door.owner.address] * 9, door.across.address])
        app = self.service.app
        token, _ = app[TOKENS].issue(wallet, app[LEDGER].clock())
        if random.random() < 0.5:
            return f"Bearer {token}"
        return "Basic " + b64encode(f"{wallet}:{token}".encode()).decode()

    def message(self, path: str, order_id: str, random: Random) -> Body:
        """Return a good message for a POST to a path; empty where any one is good."""
        make = _MESSAGES.get(path.removeprefix("/ivxp/orders/{order_id}"), _nothing)
        return make(self, order_id, random)

    def signed(self, text: str) -> Body:
        return {"message": text, "signature": self.buyer.sign(text), "signer": self.buyer.address}


def _nothing(_world: World, _order_id: str, _random: Random) -> Body:
    return {}


def _hex32(random: Random) -> str:
    return "0x" + random.randbytes(32).hex()


def _request(world: World, _order_id: str, _random: Random) -> Body:
    return {
        **PROTOCOL,
        "timestamp": utc_now(),
        "client_agent": {"name": "fuzz", "wallet_address": world.buyer.address},
        "service_request": {"type": "text_echo", "description": "hello", "budget_usdc": 5},
    }


def _deliver(world: World, order_id: str, random: Random) -> Body:
    return world.buyer.notice(order_id, _hex32(random), NETWORK)


def _payment(world: World, order_id: str, random: Random) -> Body:
    tx_hash, stamp = _hex32(random), utc_now()
    said = world.signed(f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {stamp}")
    return {
        **PROTOCOL,
        "timestamp": stamp,
        "order_id": order_id,
        "payment": {"tx_hash": tx_hash, "network": NETWORK},
        "signature": {"sig": said.pop("signature"), **said},
    }


def _confirm(world: World, order_id: str, _random: Random) -> Body:
    said = world.signed(f"Confirm delivery: {order_id} | Timestamp: {utc_now()}")
    return {**PROTOCOL, "order_id": order_id, "confirmation": said}


def dispute(buyer: Buyer, order_id: str) -> Body:
    """Return a dispute of what was delivered."""
    statement = "this is not what I asked for"
    digest = sha256(statement.encode()).hexdigest()
    text = (
        f"Dispute delivery: {order_id} | Reason: other | Hash: none"
        f" | Statement: {digest} | Timestamp: {utc_now()}"
    )
    said = {"message": text, "signature": buyer.sign(text), "statement": statement}
    return {**PROTOCOL, "order_id": order_id, "dispute": said}


def _dispute(world: World, order_id: str, _random: Random) -> Body:
    return dispute(world.buyer, order_id)


def _withdraw(world: World, order_id: str, _random: Random) -> Body:
    text = f"Withdraw dispute: {order_id} | Timestamp: {utc_now()}"
    said = {"signed_message": text, "signature": world.buyer.sign(text)}
    return {**PROTOCOL, "order_id": order_id, **said}


def _ruling(world: World, order_id: str, _random: Random) -> Body:
    text = f"Rule dispute: {order_id} | Outcome: split | Amount: 5 | Timestamp: {utc_now()}"
    said = {"signed_message": text, "signature": world.arbiter.sign(text)}
    return {**PROTOCOL, "order_id": order_id, **said}


def _token(world: World, _order_id: str, _random: Random) -> Body:
    asked = {"address": world.buyer.address}
    url = f"{world.service.url}/v1/auth/challenge"
    message = world.session.post(url, json=asked, timeout=10).json()["message"]
    return {"message": message, "signature": world.buyer.sign(message)}


def _verify(_world: World, _order_id: str, random: Random) -> Body:
    claim = UUID(bytes=random.randbytes(16), version=4)
    return {"challenge": f"ivxp-claim:{claim}", "wallet_address": None}


def _receipt(world: World, _order_id: str, random: Random) -> Body:
    kind, at = random.choice(["received", "read", "processed", "rejected"]), utc_now()
    text = f"Receipt: {world.event_id} | Kind: {kind} | Hash: none | Timestamp: {at}"
    return {"kind": kind, "at": at, "content_hash": None, "signature": world.buyer.sign(text)}


_CURSOR = "/v1/feeds/{party}/cursors/{name}"
OPENED: Body = {
    "start": "earliest",
    "types": None,
    "mode": "ack",
    "lease_seconds": 30,
    "max_batch": 100,
    "max_attempts": 10,
    "backoff": {},
    "on_poison": "park",
}
"""The cursors that are there; the same again changes nothing."""


_MESSAGES: dict[str, Callable[[World, str, Random], Body]] = {
    "/ivxp/request": _request,
    "/ivxp/deliver": _deliver,
    "/payment": _payment,
    "/delivery": _payment,
    "/confirm": _confirm,
    "/ivxp/confirm": _confirm,
    "/dispute": _dispute,
    "/dispute/withdraw": _withdraw,
    "/dispute/ruling": _ruling,
    "/v1/auth/token": _token,
    "/v1/auth/tokens": _token,
    "/.well-known/ivxp-verify": _verify,
    "/v1/work/{order_id}/start": lambda _world, _order_id, _random: {"worker": "fuzz"},
    "/v1/work/{order_id}/deliverable": lambda _world, _order_id, _random: {"content": "words"},
    "/v1/events/{event_id}/receipts": _receipt,
    _CURSOR: lambda *_: dict(OPENED),
    f"{_CURSOR}/fetch": lambda *_: {"holder": "fuzz", "lease_token": None, "wait_seconds": 0},
    f"{_CURSOR}/ack": lambda *_: {"generation": 1, "lease_token": 2, "through": 1},
    f"{_CURSOR}/nack": lambda *_: {"lease_token": 2, "at": 2, "action": "park"},
    f"{_CURSOR}/lease": lambda *_: {"lease_token": 2, "extend": 600, "release": False},
    f"{_CURSOR}/seek": lambda *_: {"to": "earliest", "reason": "again"},
    "/v1/conversations/{conversation_id}/erase": lambda *_: {"reason": "request"},
    "/v1/agents/{agent_id}/erase": lambda *_: {"reason": "operator"},
    "/v1/orders/{order_id}/refund": lambda _world, _order_id, random: {"tx_hash": _hex32(random)},
}
