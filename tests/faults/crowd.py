"""Many orders of many buyers at once, each with a fate that a seed has chosen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from eth_account.signers.local import LocalAccount

from ledger.matching import nonce_of
from scripts.buyer import Answer, Buyer, utc_now
from scripts.devchain import DevChain, encode_call
from tests.support.chain import account_named
from tests.support.watching import authorization

NETWORK: Final = "base-sepolia"
PRICE: Final = 100_000
EXTRA: Final = 77
PURSE: Final = 10**9
BUYERS: Final = 20
AT_ONCE: Final = 60
LOOK_SECONDS: Final = 0.2
WORK_PAGE: Final = 100

CATALOG: Final = """
provider = "A thousand orders"

[[services]]
type = "text_echo"
price_usdc = "0.10"
estimated_delivery_hours = 0.1
handler = "api.offerings.text:text_echo"

[[services]]
type = "breaks"
price_usdc = "0.10"
estimated_delivery_hours = 0.1
handler = "tests.contract.offerings:raises"

[[services]]
type = "by_hand"
price_usdc = "0.10"
estimated_delivery_hours = 0.1
kind = "external"
"""


@dataclass
class Story:
    """One order: its fate, its buyer, and the money that moved for it in micro-USDC."""

    fate: str
    buyer: Buyer
    chance: Random
    order_id: str = ""
    received: int = 0
    late: int = 0
    refunded: int = 0


Fate = Callable[["Crowd", Story], Awaitable[None]]


class Mined:
    """Tells of transactions as they are mined."""

    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self._events: dict[str, asyncio.Event] = {}
        self._next = chain.head() + 1

    async def watch(self) -> None:
        """Follow the chain until cancelled."""
        while True:
            head = await asyncio.to_thread(self._chain.head)
            for number in range(self._next, head + 1):
                query = [hex(number), False]
                block = await asyncio.to_thread(self._chain.rpc, "eth_getBlockByNumber", query)
                for tx_hash in block["transactions"]:
                    self._event(tx_hash).set()
            self._next = head + 1
            await asyncio.sleep(LOOK_SECONDS)

    async def wait(self, tx_hash: str) -> None:
        await self._event(tx_hash).wait()

    def _event(self, tx_hash: str) -> asyncio.Event:
        return self._events.setdefault(tx_hash, asyncio.Event())


@dataclass
class Crowd:
    """Buyers of one provider on one chain, and the provider's people."""

    url: str
    session: aiohttp.ClientSession
    chain: DevChain
    treasury: LocalAccount
    mined: Mined
    receiver: str
    operator: str = ""
    worker: str = ""
    stories: list[Story] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    given_up: set[str] = field(default_factory=set)
    """Orders that the worker fails."""

    async def sign_in(self) -> None:
        self.operator = await self._token("thousand: operator")
        self.worker = await self._token("thousand: worker")

    async def _token(self, name: str) -> str:
        buyer = self.buyer(name)
        asked = await buyer.post("/v1/auth/challenge", {"address": buyer.address})
        message = str(asked.require(200)["message"])
        said = {"message": message, "signature": buyer.sign(message)}
        return str((await buyer.post("/v1/auth/token", said)).require(200)["token"])

    def buyer(self, name: str) -> Buyer:
        return Buyer(self.session, self.url, "0x" + bytes(account_named(name).key).hex())

    async def staff(self, token: str, method: str, path: str, body: object = None) -> Answer:
        self.requests[path.rsplit("/", 1)[-1]] += 1
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.request(
            method, self.url + path, json=body, headers=headers
        ) as response:
            return Answer(response.status, await response.json(), None)

    # Steps of every order.

    async def quote(self, story: Story, service: str = "text_echo") -> None:
        answer = await story.buyer.request(service, f"words for {story.fate}")
        self.requests["request"] += 1
        story.order_id = str(answer.require(200)["order_id"])

    async def pay(self, story: Story, micros: int, *, wait: bool = True) -> str:
        tx_hash = await asyncio.to_thread(
            self.chain.transfer,
            story.buyer.private_key,
            self.treasury.address,
            micros,
            wait=False,
        )
        story.received += micros
        if wait:
            await self.mined.wait(tx_hash)
        return tx_hash

    async def tell(self, story: Story, tx_hash: str, endpoint: str | None = None) -> Answer:
        """Give notice on one of the routes until the answer is final."""
        path, notice = self._notice(story, tx_hash)
        if endpoint is not None:
            notice["delivery_endpoint"] = endpoint
        while True:
            self.requests["notice"] += 1
            answer = await story.buyer.post(path, notice)
            if not answer.body.get("retryable"):
                return answer
            await asyncio.sleep(LOOK_SECONDS)

    def _notice(self, story: Story, tx_hash: str) -> tuple[str, dict[str, object]]:
        buyer, order_id = story.buyer, story.order_id
        notice = buyer.notice(order_id, tx_hash, NETWORK)
        if story.chance.random() < 1 / 2:
            return "/ivxp/deliver", notice
        signature = {
            "message": notice["signed_message"],
            "sig": notice["signature"],
            "signer": buyer.address,
        }
        payment = {"tx_hash": tx_hash, "network": NETWORK}
        body = {"protocol": "IVXP/1.0", "order_id": order_id, "payment": payment}
        return f"/ivxp/orders/{order_id}/payment", {**body, "signature": signature}

    async def word(self, story: Story) -> str:
        """Return the order's word of 1.1."""
        self.requests["status"] += 1
        answer = await story.buyer.get(f"/ivxp/status/{story.order_id}?protocol=1.1")
        return str(answer.require(200)["status"])

    async def until(self, story: Story, *words: str) -> None:
        while await self.word(story) not in words:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(LOOK_SECONDS)

    async def download(self, story: Story) -> str:
        self.requests["download"] += 1
        answer = await story.buyer.get(f"/ivxp/download/{story.order_id}")
        return str(answer.require(200)["content"])

    async def sign_for(self, story: Story) -> None:
        await self.until(story, "ready", "posted", "delivered")
        self.requests["confirm"] += 1
        (await story.buyer.confirm(story.order_id, await self.download(story))).require(200)

    async def give_back(self, story: Story) -> None:
        """Send all of it back and name it to the service, until a safe block shows it."""
        key, micros = bytes(self.treasury.key), story.received
        tx_hash = await asyncio.to_thread(
            self.chain.transfer, key, story.buyer.address, micros, wait=False
        )
        story.refunded = micros
        await self.mined.wait(tx_hash)
        path = f"/v1/orders/{story.order_id}/refund"
        while True:
            answer = await self.staff(self.operator, "POST", path, {"tx_hash": tx_hash})
            if not answer.body.get("retryable"):
                answer.require(200)
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def work(self) -> None:
        """Take what waits for a worker, until cancelled."""
        while True:
            path = f"/v1/work?limit={WORK_PAGE}"
            found = (await self.staff(self.worker, "GET", path)).require(200)["orders"]
            assert isinstance(found, list)
            for item in found:
                await self._serve(item["order_id"], item["description"])
            await asyncio.sleep(LOOK_SECONDS)

    async def _serve(self, order_id: str, words: str) -> None:
        path = f"/v1/work/{order_id}"
        if (await self.staff(self.worker, "POST", f"{path}/start", {})).status != 200:
            return
        if order_id in self.given_up:
            await self.staff(self.worker, "POST", f"{path}/fail", {"reason": "no luck"})
        else:
            body = {"content": words.upper()}
            await self.staff(self.worker, "POST", f"{path}/deliverable", body)


# What becomes of an order.


async def paid(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    (await crowd.tell(story, await crowd.pay(story, PRICE))).require(200)
    await crowd.sign_for(story)


async def impatient(crowd: Crowd, story: Story) -> None:
    """Give notice before the payment is mined."""
    await crowd.quote(story)
    (await crowd.tell(story, await crowd.pay(story, PRICE, wait=False))).require(200)
    await crowd.sign_for(story)


async def two_parts(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    part = await crowd.tell(story, await crowd.pay(story, PRICE - EXTRA))
    assert part.require(402)["error"] == "AMOUNT_MISMATCH"
    (await crowd.tell(story, await crowd.pay(story, EXTRA))).require(200)
    await crowd.sign_for(story)


async def too_much(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    (await crowd.tell(story, await crowd.pay(story, PRICE + EXTRA))).require(200)
    await crowd.sign_for(story)


async def named(crowd: Crowd, story: Story) -> None:
    """Pay by an authorization that names the order, and give no notice at all."""
    await crowd.quote(story)
    nonce = bytes.fromhex(nonce_of(story.order_id)[2:])
    payer = account_of(story.buyer)
    data = authorization(crowd.chain, payer, crowd.treasury.address, PRICE, nonce)
    await asyncio.to_thread(
        crowd.chain.send,
        account_named("thousand: relayer").key,
        to=crowd.chain.usdc_address,
        data=data,
        wait=False,
    )
    story.received = PRICE
    await crowd.until(story, "ready")
    await crowd.download(story)


async def disputed(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    (await crowd.tell(story, await crowd.pay(story, PRICE))).require(200)
    await crowd.until(story, "ready")
    text = (
        f"Dispute delivery: {story.order_id} | Reason: wrong_content | Hash: none"
        f" | Statement: none | Timestamp: {utc_now()}"
    )
    said = {"signed_message": text, "signature": story.buyer.sign(text)}
    body = {"protocol": "IVXP/1.0", "order_id": story.order_id, **said}
    (await story.buyer.post(f"/ivxp/orders/{story.order_id}/dispute", body)).require(200)
    path = f"/v1/orders/{story.order_id}/dispute/answer"
    answer = await crowd.staff(crowd.operator, "POST", path, {"position": "rejects"})
    answer.require(200)


async def refunded(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    (await crowd.tell(story, await crowd.pay(story, PRICE))).require(200)
    await crowd.give_back(story)


async def handler_fails(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story, "breaks")
    (await crowd.tell(story, await crowd.pay(story, PRICE))).require(200)
    await crowd.until(story, "delivery_failed")
    if story.chance.random() < 1 / 3:
        story.fate = "refunded"
        await crowd.give_back(story)


async def by_hand(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story, "by_hand")
    (await crowd.tell(story, await crowd.pay(story, PRICE))).require(200)
    await crowd.sign_for(story)


async def worker_fails(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story, "by_hand")
    crowd.given_up.add(story.order_id)
    (await crowd.tell(story, await crowd.pay(story, PRICE))).require(200)
    await crowd.until(story, "delivery_failed")


async def posted(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    tx_hash = await crowd.pay(story, PRICE)
    (await crowd.tell(story, tx_hash, f"{crowd.receiver}/200")).require(200)
    await crowd.until(story, "posted")


async def push_refused(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    tx_hash = await crowd.pay(story, PRICE)
    (await crowd.tell(story, tx_hash, f"{crowd.receiver}/500")).require(200)
    await crowd.until(story, "delivery_failed")


async def reverted(crowd: Crowd, story: Story) -> None:
    """Offer a transaction that moved nothing."""
    await crowd.quote(story)
    data = encode_call("usdc_like", "transfer", crowd.treasury.address, 2 * PURSE)
    tx_hash = await asyncio.to_thread(
        crowd.chain.send,
        story.buyer.private_key,
        to=crowd.chain.usdc_address,
        data=data,
        wait=False,
    )
    await crowd.mined.wait(tx_hash)
    (await crowd.tell(story, tx_hash)).require(402)


async def offered_twice(crowd: Crowd, story: Story) -> None:
    """Offer the payment of another order once more."""
    other = Story("paid", story.buyer, story.chance)
    crowd.stories.append(other)
    await crowd.quote(other)
    tx_hash = await crowd.pay(other, PRICE)
    (await crowd.tell(other, tx_hash)).require(200)
    await crowd.quote(story)
    refused = (await crowd.tell(story, tx_hash)).require(402)
    details = refused["details"]
    assert isinstance(details, dict)
    assert details["reason"] == "already_claimed"
    await crowd.sign_for(other)


async def part_only(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)
    (await crowd.tell(story, await crowd.pay(story, EXTRA))).require(402)


async def never(crowd: Crowd, story: Story) -> None:
    await crowd.quote(story)


FATES: Final[dict[str, tuple[int, str, Fate]]] = {
    "paid": (20, "client_confirmed", paid),
    "impatient": (10, "client_confirmed", impatient),
    "two parts": (6, "client_confirmed", two_parts),
    "too much": (5, "client_confirmed", too_much),
    "named": (4, "delivered", named),
    "disputed": (6, "disputed", disputed),
    "refunded": (6, "refunded", refunded),
    "handler fails": (6, "delivery_failed", handler_fails),
    "by hand": (8, "client_confirmed", by_hand),
    "worker fails": (3, "delivery_failed", worker_fails),
    "posted": (6, "posted", posted),
    "push refused": (4, "delivery_failed", push_refused),
    "reverted": (3, "expired", reverted),
    "offered twice": (3, "expired", offered_twice),
    "part only": (3, "expired", part_only),
    "late": (3, "expired", never),
    "never": (4, "expired", never),
}
"""How often each comes, the word of 1.1 at the end, and what happens until then.

Who is late pays after all quotes have expired.
"""


def account_of(buyer: Buyer) -> LocalAccount:
    account: LocalAccount = buyer._account
    return account


def stories_of(chance: Random, crowd: Crowd, count: int) -> list[Story]:
    """Return so many orders, each with its fate, its buyer and its own luck."""
    names, weights = list(FATES), [weight for weight, *_ in FATES.values()]
    buyers = [crowd.buyer(f"thousand: buyer {n}") for n in range(BUYERS)]
    return [
        Story(fate, chance.choice(buyers), Random(chance.random()))  # noqa: S311 - reproducible
        for fate in chance.choices(names, weights, k=count)
    ]


async def live(crowd: Crowd, stories: list[Story]) -> None:
    """Let all orders happen, many at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(story: Story) -> None:
        _, _, fate = FATES[story.fate]
        async with gate:
            await fate(crowd, story)

    crowd.stories += stories
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(crowd.mined.watch()), group.create_task(crowd.work())]
        await asyncio.gather(*(one(story) for story in stories))
        for task in beside:
            task.cancel()


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """Take pushes; the path says with which status they are answered. Gives the URL."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=int(request.match_info["status"]))

    app = web.Application()
    app.router.add_post("/{status}", take)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def fund(chain: DevChain) -> LocalAccount:
    """Fill every purse; return the account that the provider is paid at."""
    for name in ("thousand: treasury", "thousand: relayer"):
        _give(chain, account_named(name).address, 0)
    for number in range(BUYERS):
        _give(chain, account_named(f"thousand: buyer {number}").address, PURSE)
    chain.mine()
    return account_named("thousand: treasury")


def _give(chain: DevChain, address: str, micros: int) -> None:
    """Send ether, and USDC if any, without waiting for the next block."""
    key = chain.minter.key
    chain.send(key, to=address, value_wei=10**18, wait=False)
    if micros:
        mint = encode_call("usdc_like", "mint", address, micros)
        chain.send(key, to=chain.usdc_address, data=mint, wait=False)
