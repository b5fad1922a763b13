"""A crowd of buyers that outlives the service and remembers every step that it acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

import aiohttp

from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain
from tests.support.chain import funded_account

NETWORK = "base-sepolia"
PRICE_MICROS = 100_000
PURSE_MICROS = 10**12
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60

Call = Callable[[Buyer], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A step that the service answered for, with the place in the ledger that it named."""

    order_id: str
    step: str
    position: int
    leaf: str
    head: str


class Load:
    """Runs buyers until it is left; `up` and `down` say whether the service is there."""

    def __init__(self, chain: DevChain, payee: str, *, buyers: int, seed: int) -> None:
        self._chain = chain
        self._payee = payee
        self._seed = seed
        self._keys = [
            "0x" + funded_account(chain, f"load {seed} {n}", PURSE_MICROS).key.hex()
            for n in range(buyers)
        ]
        self._url: str | None = None
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledged: list[Acknowledged] = []
        self.finished: set[str] = set()
        self.under_way = 0
        """Requests that wait for their answer now."""
        self.unanswered = 0
        """Requests that a kill left without an answer; each was sent again."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._tasks = [
            asyncio.create_task(self._buy_for_ever(key, n)) for n, key in enumerate(self._keys)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        failures = [e for e in ended if isinstance(e, Exception)]
        if failures and error is None:
            raise failures[0]

    async def up(self, url: str) -> None:
        """Send the buyers there."""
        await self._switch(url)

    async def down(self) -> None:
        """Let the buyers wait."""
        await self._switch(None)

    async def more(self, steps: int) -> None:
        """Return once that many further steps were acknowledged."""
        wanted = len(self.acknowledged) + steps
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(
                lambda: len(self.acknowledged) >= wanted or any(t.done() for t in self._tasks)
            )
        self._raise_failures()

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _switch(self, url: str | None) -> None:
        async with self._changed:
            self._url = url
            self._changed.notify_all()

    async def _buy_for_ever(self, key: str, number: int) -> None:
        chance = Random(f"{self._seed} {number}")  # noqa: S311 - a reproducible choice
        try:
            while True:
                await self._buy(key, f"words {chance.random()}")
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _buy(self, key: str, words: str) -> None:
        quote = (await self._step(key, "request", lambda b: b.request("text_echo", words))).body
        order_id = str(quote["order_id"])
        tx_hash = await asyncio.to_thread(self._chain.transfer, key, self._payee, PRICE_MICROS)
        notice = Buyer(self._session, "http://unused", key).notice(order_id, tx_hash, NETWORK)
        await self._step(key, "deliver", lambda b: b.deliver(notice))
        await self._until_delivered(key, order_id)
        path = f"/ivxp/download/{order_id}"
        content = str((await self._step(key, "download", lambda b: b.get(path))).body["content"])
        assert content == words
        await self._step(key, "confirm", lambda b: b.confirm(order_id, content))
        self.finished.add(order_id)

    async def _until_delivered(self, key: str, order_id: str) -> None:
        path = f"/ivxp/status/{order_id}"
        while True:
            answer = await self._step(key, "status", lambda b: b.get(path))
            if answer.body["status"] == "delivered":
                return
            assert answer.body["status"] in ("quoted", "paid", "processing"), answer
            await asyncio.sleep(POLL_SECONDS)

    async def _step(self, key: str, name: str, call: Call) -> Answer:
        """Do a step, again and again until it is answered; a repeat of a done one counts."""
        while True:
            url = await self._url_while_up()
            self.under_way += 1
            try:
                answer = await call(Buyer(self._session, url, key))
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                self.unanswered += 1
                await self._after(url)
                continue
            finally:
                self.under_way -= 1
            await self._note(name, answer)
            if answer.status == 200 or _is_settled(answer):
                return answer
            assert answer.body.get("retryable"), (name, answer)
            await asyncio.sleep(POLL_SECONDS)

    async def _note(self, name: str, answer: Answer) -> None:
        ledger = answer.body.get("ledger")
        if not isinstance(ledger, dict):
            return
        stream, head = json.loads(ledger["entry"])["event"]["stream"], answer.ledger_head
        assert head is not None
        order_id = str(stream).removeprefix("order/")
        async with self._changed:
            self.acknowledged.append(
                Acknowledged(order_id, name, ledger["position"], ledger["leaf"], head)
            )
            self._changed.notify_all()

    async def _url_while_up(self) -> str:
        async with self._changed:
            await self._changed.wait_for(lambda: self._url is not None)
            assert self._url is not None
            return self._url

    async def _after(self, url: str) -> None:
        """Wait until the service that broke off is known to be gone."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._url != url)


def _is_settled(answer: Answer) -> bool:
    """Whether an error says all the same that the step is done, or that its claim is kept."""
    repeated = answer.body["error"] == "DUPLICATE_DELIVERY_REQUEST"
    return repeated or (answer.body.get("retryable") is True and "ledger" in answer.body)
