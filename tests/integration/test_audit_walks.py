"""Whatever the deciders let happen, in any order, the audit finds nothing wrong with it."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest

from ledger import commands as c
from ledger.audit import audit
from ledger.deal_events import DealEvent
from ledger.decide import OrderCommand
from ledger.errors import LedgerError
from ledger.event import Finality, Transfer
from ledger.finding import ChainView, Finding
from ledger.order_events import OrderEvent
from ledger.values import ZERO_ADDRESS, UnixMs
from tests.support import ledger_files as lf

ORDERS = 120
STEPS = 60
NAMES = "abc"
FINALITIES: list[Finality] = ["sealed", "safe", "finalized"]


class Walk:
    """One order, and everything that may be tried on it at random."""

    def __init__(self, story: lf.Story, rng: random.Random) -> None:
        self.story = story
        self.rng = rng
        self.sent: dict[str, Transfer] = {}

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        story = self.story
        return [
            self.notice,
            self.notice,
            self.resolve,
            self.found,
            self.recheck,
            self.recheck,
            self.refund,
            self.expire,
            lambda: self.do(c.StartProcessing(self.rng.choice(["worker", "retry"]), self.now())),
            lambda: self.do(c.FailHandler(1, "", self.now())),
            lambda: self.do(c.LapseAcceptance(self.now())),
            lambda: self.do(c.LapseAnswer(self.now())),
            lambda: self.do(c.DeclarePaymentImpossible(story.tx("other"), self.now())),
            story.hand_in,
            lambda: story.push(self.rng.choice(["accepted", "refused", "exhausted"])),
            story.collect,
            lambda: story.confirm(with_hash=self.rng.random() < 0.5),
            lambda: story.dispute(self.rng.choice(["not_delivered", "other"])),
            story.answer,
            story.withdraw,
            lambda: story.rule(self.rng.choice([0, lf.PRICE])),
            self.wait,
            self.erase,
        ]

    def now(self) -> UnixMs:
        return self.story.teller.tick()

    async def do(self, command: OrderCommand) -> None:
        await self.story.do(command)

    def transfer(self, name: str) -> Transfer:
        """Return the transfer of that name, the same until a reorganisation moves it."""
        if name not in self.sent:
            amount = self.rng.choice([lf.PRICE] * 4 + [lf.PRICE // 2, lf.PRICE - 1, 2])
            after = self.rng.choice([30] * 5 + [3601])
            self.sent[name] = self.story.transfer(name, amount, after_seconds=after)
        return self.sent[name]

    def look(self, name: str) -> Finding:
        if self.rng.random() < 0.7:
            finality = self.rng.choice(FINALITIES)
            return lf.mined(self.transfer(name), finality=finality)
        view = self.rng.choice([v for v in ChainView if v is not ChainView.MINED])
        safe_time = self.story.terms.pay_by + self.rng.choice([-1, 1])
        return lf.unseen(self.story.tx(name), view, safe_time=safe_time)

    async def notice(self) -> None:
        name = self.rng.choice(NAMES)
        await self.story.notice(name, self.look(name), endpoint=self.rng.random() < 0.5)

    async def resolve(self) -> None:
        await self.do(c.ResolveClaim(self.look(self.rng.choice(NAMES)), self.now()))

    async def found(self) -> None:
        finding = self.look(self.rng.choice(NAMES))
        await self.do(c.RecordTransfers(finding, lf.CLIENT.address, self.now()))

    async def recheck(self) -> None:
        name = self.rng.choice(list(self.sent) or list(NAMES))
        before = self.transfer(name)
        canonical = {before.block_number: "0x" + "0b" * 32} if self.rng.random() < 0.5 else {}
        if self.rng.random() < 0.5:
            moved = self.story.transfer(name, before.amount, fork=f"{self.now()}")
            self.sent[name] = moved.model_copy(update={"block_time": before.block_time})
        await self.do(c.RecheckPayment(self.look(name), canonical, self.now()))

    async def refund(self) -> None:
        amount = self.rng.choice([lf.PRICE, 2, 2, 2])
        await self.story.give_back(f"back {self.now()}", amount)

    async def expire(self) -> None:
        time = self.story.terms.pay_by + self.rng.choice([0, 1])
        await self.do(c.ExpireQuote(900, time, candidate_transfers=False, now=self.now()))

    async def erase(self) -> None:
        erased = {row.content_id for row in self.story.teller.erased}
        if self.story.content_id and self.story.content_id not in erased:
            await self.story.erase()

    async def wait(self) -> None:
        self.story.teller.tick(self.rng.choice([lf.HOUR, 13 * lf.HOUR, 25 * lf.HOUR]))


async def wander(teller: lf.Teller, rng: random.Random) -> None:
    client = rng.choice([lf.CLIENT.account, f"{lf.CHAIN}:{ZERO_ADDRESS}"])
    walk = Walk(await teller.quote(client), rng)
    for _ in range(STEPS):
        with suppress(LedgerError):
            await rng.choice(walk.steps())()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_random_walks_through_the_deciders_leave_no_finding(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - the same walk each time
    files = lf.LedgerFiles(tmp_path)
    ledger = files.open()
    ledger.start()

    async def walks() -> None:
        teller = lf.Teller(ledger)
        await asyncio.gather(*(wander(teller, rng) for _ in range(ORDERS)))

    asyncio.run(walks())
    kinds = Counter(placed.signed.event.kind for placed in ledger.read(after=0, limit=100_000))
    ledger.close()

    assert audit(files.database, files.guard).findings == []
    orders = {each.kind for each in get_args(OrderEvent)} - {e.kind for e in get_args(DealEvent)}
    assert len(kinds.keys() & orders) > len(orders) - 4, orders - kinds.keys()
