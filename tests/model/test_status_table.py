"""Every status of an order against every command over HTTP, as one table.

A cell is `outcome` or `outcome > state`: what the answer is, and where the order stands after it,
if not where it stood. The states below `AS_SHOWN` say which words clients see there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio

from ledger.order import Status
from tests.model.node import Tx
from tests.model.people import Route
from tests.model.provider import Provider, loops_by_hand
from tests.model.scenes import (
    CONTENT,
    OTHER_CONTENT,
    SCENES,
    Scene,
    given_back,
    scene,
)
from tests.model.stream import backlog
from tests.model.wire import Ask, get

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUTCOMES: Final = {
    "ok": (200, ""),
    "again": (200, ""),  # with the first answer
    "claim": (402, "PAYMENT_NOT_VERIFIED"),  # retryable: the claim is kept or the refund not seen
    "more": (402, "AMOUNT_MISMATCH"),
    "late": (408, "PAYMENT_TIMEOUT"),
    "over": (410, "ORDER_EXPIRED"),
    "state": (409, "INVALID_ORDER_STATE"),
    "twice": (409, "DUPLICATE_DELIVERY_REQUEST"),
    "lost": (409, "PAYMENT_ORPHANED"),
    "early": (409, "DELIVERY_NOT_DUE"),
    "closed": (409, "WINDOW_CLOSED"),
    "bytes": (409, "CONTENT_HASH_MISMATCH"),
    "other": (409, "DELIVERABLE_EXISTS"),
    "hold": (409, "DISPUTE_HOLD"),
    "none": (404, "DELIVERABLE_NOT_READY"),
    "who": (401, "SIGNATURE_INVALID"),
    "no": (400, "NOT_A_RECEIPT"),
}
RETRYABLE: Final = frozenset({"claim"})

AS_SHOWN: Final = """
state                  | 1.0             | 1.1
quoted                 | quoted          | quoted
quoted, claim          | quoted          | quoted
quoted, part paid      | quoted          | quoted
quoted, overdue        | quoted          | quoted
expired                | quoted          | expired
expired, late money    | quoted          | expired
paid                   | paid            | paid
paid, past due         | paid            | paid
paid, orphaned         | paid            | paid
processing             | processing      | processing
processing, no notice  | processing      | processing
processing, past due   | processing      | processing
processing, orphaned   | processing      | processing
ready                  | delivered       | ready
ready, lapsed          | delivered       | ready
ready, push to come    | processing      | ready
ready, orphaned        | delivered       | ready
ready, erased          | delivered       | ready
posted                 | delivered       | posted
delivered              | delivered       | delivered
failed, content        | delivery_failed | delivery_failed
failed, nothing        | delivery_failed | delivery_failed
confirmed              | delivered       | client_confirmed
disputed               | delivered       | disputed
disputed, answered     | delivered       | disputed
disputed, unpaid work  | paid            | disputed
disputed, nothing      | processing      | disputed
disputed, failed       | delivery_failed | disputed
refunded               | delivery_failed | refunded
refunded, no notice    | delivery_failed | refunded
refunded, content      | delivery_failed | refunded
"""

OF_THE_PAYMENT: Final = """
state                 | deliver          | payment          | delivery         | another payment
quoted                | ok > processing  | ok > processing  | ok > processing  | ok > processing
quoted, claim         | claim            | claim            | claim            | ok > processing
quoted, part paid     | more             | more             | more             | ok > processing
quoted, overdue       | late             | late             | late             | late
expired               | over             | over             | over             | over
expired, late money   | over             | over             | over             | over
paid                  | ok > processing  | ok > processing  | ok > processing  | ok > processing
paid, past due        | ok > processing  | ok > processing  | ok > processing  | ok > processing
paid, orphaned        | claim            | claim            | claim            | ok > processing
processing            | twice            | again            | again            | twice
processing, no notice | ok               | ok               | ok               | ok
processing, past due  | twice            | again            | again            | twice
processing, orphaned  | claim            | claim            | claim            | ok
ready                 | twice            | again            | again            | twice
ready, lapsed         | twice            | again            | again            | twice
ready, push to come   | twice            | again            | again            | twice
ready, orphaned       | claim            | claim            | claim            | ok
ready, erased         | twice            | again            | again            | twice
posted                | twice            | again            | again            | twice
delivered             | twice            | again            | again            | twice
failed, content       | twice            | again            | again            | twice
failed, nothing       | twice            | again            | again            | twice
confirmed             | twice            | again            | again            | twice
disputed              | twice            | again            | again            | twice
disputed, answered    | twice            | again            | again            | twice
disputed, nothing     | twice            | again            | again            | twice
disputed, failed      | twice            | again            | again            | twice
refunded              | twice            | again            | again            | twice
refunded, no notice   | state            | state            | state            | state
refunded, content     | twice            | again            | again            | twice
"""

OF_THE_CLIENT: Final = """
state                 | receipt        | order only     | alias          | wrong | stranger | denied | dispute
quoted                | state          | state          | state          | state | who      | no     | state
quoted, claim         | state          | state          | state          | state | who      | no     | state
quoted, part paid     | state          | state          | state          | state | who      | no     | state
quoted, overdue       | state          | state          | state          | state | who      | no     | state
expired               | state          | state          | state          | state | who      | no     | state
expired, late money   | state          | state          | state          | state | who      | no     | state
paid                  | state          | state          | state          | state | who      | no     | early
paid, past due        | state          | state          | state          | state | who      | no     | ok > disputed, unpaid work
paid, orphaned        | state          | state          | state          | state | who      | no     | early
processing            | state          | state          | state          | state | who      | no     | early
processing, no notice | state          | state          | state          | state | who      | no     | early
processing, past due  | state          | state          | state          | state | who      | no     | ok > disputed, nothing
processing, orphaned  | state          | state          | state          | state | who      | no     | early
ready                 | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
ready, lapsed         | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | closed
ready, push to come   | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
ready, orphaned       | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
ready, erased         | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
posted                | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
delivered             | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
failed, content       | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | ok > disputed
failed, nothing       | state          | state          | state          | state | who      | no     | ok > disputed, failed
confirmed             | again          | again          | again          | bytes | who      | no     | state
disputed              | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | again
disputed, answered    | ok > confirmed | ok > confirmed | ok > confirmed | bytes | who      | no     | again
disputed, nothing     | state          | state          | state          | state | who      | no     | again
disputed, failed      | state          | state          | state          | state | who      | no     | again
refunded              | state          | state          | state          | state | who      | no     | state
refunded, no notice   | state          | state          | state          | state | who      | no     | state
refunded, content     | state          | state          | state          | bytes | who      | no     | state
"""  # noqa: E501 - a table reads by its columns

OF_THE_WORKER: Final = """
state                 | start           | retry           | hand in    | other bytes | fail
quoted                | state           | state           | state      | state       | state
quoted, claim         | state           | state           | state      | state       | state
quoted, part paid     | state           | state           | state      | state       | state
quoted, overdue       | state           | state           | state      | state       | state
expired               | state           | state           | state      | state       | state
expired, late money   | state           | state           | state      | state       | state
paid                  | ok > processing | state           | ok > ready | ok > ready  | state
paid, past due        | ok > processing | state           | ok > ready | ok > ready  | state
paid, orphaned        | lost            | lost            | lost       | lost        | state
processing            | ok              | ok              | ok > ready | ok > ready  | ok > failed, nothing
processing, no notice | ok              | ok              | ok > ready | ok > ready  | ok > failed, nothing
processing, past due  | ok              | ok              | ok > ready | ok > ready  | ok > failed, nothing
processing, orphaned  | lost            | lost            | lost       | lost        | ok > failed, nothing
ready                 | state           | state           | again      | other       | state
ready, lapsed         | state           | state           | again      | other       | state
ready, push to come   | state           | state           | again      | other       | state
ready, orphaned       | lost            | lost            | again      | other       | state
ready, erased         | state           | state           | again      | other       | state
posted                | state           | state           | again      | other       | state
delivered             | state           | state           | again      | other       | state
failed, content       | state           | state           | again      | other       | state
failed, nothing       | state           | ok > processing | ok > ready | ok > ready  | again
confirmed             | state           | state           | again      | other       | state
disputed              | state           | state           | again      | other       | state
disputed, answered    | state           | state           | again      | other       | state
disputed, nothing     | state           | state           | ok > ready | ok > ready  | state
disputed, failed      | state           | state           | ok > ready | ok > ready  | state
refunded              | state           | state           | state      | state       | state
refunded, no notice   | state           | state           | state      | state       | state
refunded, content     | state           | state           | again      | other       | state
"""  # noqa: E501 - a table reads by its columns

OF_THE_DISPUTE: Final = """
state                 | withdraw | answer                  | ruling
quoted                | state    | state                   | state
quoted, claim         | state    | state                   | state
quoted, part paid     | state    | state                   | state
quoted, overdue       | state    | state                   | state
expired               | state    | state                   | state
expired, late money   | state    | state                   | state
paid                  | state    | state                   | state
paid, past due        | state    | state                   | state
paid, orphaned        | state    | state                   | state
processing            | state    | state                   | state
processing, no notice | state    | state                   | state
processing, past due  | state    | state                   | state
processing, orphaned  | state    | state                   | state
ready                 | state    | state                   | state
ready, lapsed         | state    | state                   | state
ready, push to come   | state    | state                   | state
ready, orphaned       | state    | state                   | state
ready, erased         | state    | state                   | state
posted                | state    | state                   | state
delivered             | state    | state                   | state
failed, content       | state    | state                   | state
failed, nothing       | state    | state                   | state
confirmed             | state    | state                   | state
disputed              | ok       | ok > disputed, answered | ok
disputed, answered    | ok       | state                   | ok
disputed, nothing     | ok       | ok                      | ok
disputed, failed      | ok       | ok                      | ok
refunded              | state    | state                   | state
refunded, no notice   | state    | state                   | state
refunded, content     | state    | state                   | state
"""

OF_THE_OPERATOR: Final = """
state                 | all back               | unseen refund | erase
quoted                | ok                     | claim         | state
quoted, claim         | ok                     | claim         | state
quoted, part paid     | ok                     | claim         | state
quoted, overdue       | ok                     | claim         | state
expired               | ok                     | claim         | ok
expired, late money   | ok > refunded          | claim         | ok
paid                  | ok > refunded          | claim         | state
paid, past due        | ok > refunded          | claim         | state
paid, orphaned        | ok                     | claim         | state
processing            | ok > refunded          | claim         | state
processing, no notice | ok > refunded          | claim         | state
processing, past due  | ok > refunded          | claim         | state
processing, orphaned  | ok                     | claim         | state
ready                 | ok > refunded, content | claim         | ok > ready, erased
ready, lapsed         | ok > refunded, content | claim         | ok > ready, erased
ready, push to come   | ok > refunded, content | claim         | ok > ready, erased
ready, orphaned       | ok                     | claim         | ok
ready, erased         | ok > refunded, content | claim         | ok
posted                | ok > refunded, content | claim         | ok
delivered             | ok > refunded, content | claim         | ok
failed, content       | ok > refunded, content | claim         | ok
failed, nothing       | ok > refunded          | claim         | state
confirmed             | ok > refunded, content | claim         | ok
disputed              | ok > refunded, content | claim         | hold
disputed, answered    | ok > refunded, content | claim         | hold
disputed, nothing     | ok > refunded          | claim         | hold
disputed, failed      | ok > refunded          | claim         | hold
refunded              | ok                     | claim         | ok
refunded, no notice   | ok                     | claim         | ok
refunded, content     | ok                     | claim         | ok
"""

OF_ANYBODY: Final = """
state                 | download       | whole | head | quote again
quoted                | none           | none  | none | again
quoted, claim         | none           | none  | none | again
quoted, part paid     | none           | none  | none | again
quoted, overdue       | none           | none  | none | again
expired               | none           | none  | none | again
expired, late money   | none           | none  | none | again
paid                  | none           | none  | none | again
paid, past due        | none           | none  | none | again
paid, orphaned        | none           | none  | none | again
processing            | none           | none  | none | again
processing, no notice | none           | none  | none | again
processing, past due  | none           | none  | none | again
processing, orphaned  | none           | none  | none | again
ready                 | ok > delivered | ok > delivered | ok | again
ready, lapsed         | ok > delivered | ok > delivered | ok | again
ready, push to come   | ok > delivered | ok > delivered | ok | again
ready, orphaned       | ok > delivered | ok > delivered | ok | again
ready, erased         | over           | over | over | again
posted                | ok > delivered | ok > delivered | ok | again
delivered             | ok             | ok   | ok   | again
failed, content       | ok > delivered | ok > delivered | ok | again
failed, nothing       | none           | none | none | again
confirmed             | ok             | ok   | ok   | again
disputed              | ok             | ok   | ok   | again
disputed, answered    | ok             | ok   | ok   | again
disputed, nothing     | none           | none | none | again
disputed, failed      | none           | none | none | again
refunded              | none           | none | none | again
refunded, no notice   | none           | none | none | again
refunded, content     | ok             | ok   | ok   | again
"""
TABLES: Final = (
    OF_THE_PAYMENT,
    OF_THE_CLIENT,
    OF_THE_DISPUTE,
    OF_THE_WORKER,
    OF_THE_OPERATOR,
    OF_ANYBODY,
)


@dataclass(frozen=True)
class Cell:
    """One field of a table: what is done where, and what comes of it."""

    state: str
    command: str
    outcome: str
    after: str


def rows_of(table: str) -> list[tuple[str, dict[str, str]]]:
    """Return each row's state and its fields by the names of their columns."""
    lines = [[part.strip() for part in line.split("|")] for line in table.strip().splitlines()]
    [_, *columns] = lines[0]
    return [(row[0], dict(zip(columns, row[1:], strict=True))) for row in lines[1:]]


def cells() -> list[Cell]:
    found = []
    for table in TABLES:
        for state, fields in rows_of(table):
            for command, text in fields.items():
                outcome, _, after = text.partition(" > ")
                found.append(Cell(state, command, outcome, after or state))
    # By row: what is refused leaves its scene for the next command.
    return sorted(found, key=lambda cell: list(SCENES).index(cell.state))


WORDS: Final = {state: (row["1.0"], row["1.1"]) for state, row in rows_of(AS_SHOWN)}


# What is sent.


def known_payment(s: Scene) -> Tx:
    """Return the payment that the order knows of; of an order without one, one made now."""
    return s.paid or s.payment()


def notice(route: Route) -> Callable[[Scene], Awaitable[Ask]]:
    async def ask(s: Scene) -> Ask:
        form = "identity" if route == "delivery" else "plain"
        return s.client.notice(s.order_id, known_payment(s).hash, route=route, form=form)

    return ask


async def another_payment(s: Scene) -> Ask:
    return s.client.notice(s.order_id, s.payment().hash)


async def stranger(s: Scene) -> Ask:
    return s.provider.client("a stranger").receipt(s.order_id, CONTENT)


async def all_back(s: Scene) -> Ask:
    tx = await given_back(s)
    return s.provider.operator.refund(s.order_id, tx.hash)


async def unseen_refund(s: Scene) -> Ask:
    return s.provider.operator.refund(s.order_id, "0x" + "ab" * 32)


async def ruling(s: Scene) -> Ask:
    row = s.provider.row(s.order_id)
    assert row is not None
    return s.provider.arbiter.ruling(s.order_id, "client", row.received_micros)


def said(make: Callable[[Scene], Ask]) -> Callable[[Scene], Awaitable[Ask]]:
    async def ask(s: Scene) -> Ask:
        return make(s)

    return ask


COMMANDS: Final[dict[str, Callable[[Scene], Awaitable[Ask]]]] = {
    "deliver": notice("deliver"),
    "payment": notice("payment"),
    "delivery": notice("delivery"),
    "another payment": another_payment,
    "receipt": said(lambda s: s.client.receipt(s.order_id, CONTENT)),
    "order only": said(lambda s: s.client.receipt(s.order_id, None, shape="sdk")),
    "alias": said(lambda s: s.client.receipt(s.order_id, None, shape="oldest", alias=True)),
    "wrong": said(lambda s: s.client.receipt(s.order_id, OTHER_CONTENT)),
    "stranger": stranger,
    "denied": said(lambda s: s.client.receipt(s.order_id, CONTENT, received=False)),
    "dispute": said(lambda s: s.client.dispute(s.order_id)),
    "withdraw": said(lambda s: s.client.withdrawal(s.order_id)),
    "answer": said(lambda s: s.provider.operator.answer(s.order_id)),
    "ruling": ruling,
    "start": said(lambda s: s.provider.worker.start(s.order_id)),
    "retry": said(lambda s: s.provider.worker.retry(s.order_id)),
    "hand in": said(lambda s: s.provider.worker.hand_in(s.order_id, CONTENT)),
    "other bytes": said(lambda s: s.provider.worker.hand_in(s.order_id, OTHER_CONTENT)),
    "fail": said(lambda s: s.provider.worker.fail(s.order_id)),
    "all back": all_back,
    "unseen refund": unseen_refund,
    "erase": said(lambda s: s.provider.operator.erase(s.order_id)),
    "download": said(lambda s: get(f"/ivxp/download/{s.order_id}")),
    "whole": said(lambda s: get(f"/ivxp/orders/{s.order_id}/deliverable?view=strict")),
    "head": said(lambda s: Ask("HEAD", f"/ivxp/download/{s.order_id}")),
    "quote again": said(lambda s: s.ask),
}


# The service, and the last scene as long as nothing changed it.


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    with loops_by_hand():
        async with Provider(tmp_path_factory.mktemp("table")).running() as running:
            yield running


@dataclass
class Kept:
    """A scene that may serve again: as long as no event was added to its order."""

    state: str = ""
    scene: Scene | None = None

    async def get(self, provider: Provider, state: str) -> Scene:
        if self.scene is None or self.state != state:
            self.scene, self.state = await scene(provider), state
            await SCENES[state](self.scene)
            self.scene.events = len(await self.scene.history())
        return self.scene

    async def put(self, s: Scene) -> None:
        if len(await s.history()) != s.events:
            self.scene = None


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: f"{cell.state}: {cell.command}")
async def test_every_status_and_every_command(provider: Provider, kept: Kept, cell: Cell) -> None:
    s = await kept.get(provider, cell.state)
    try:
        ask = await COMMANDS[cell.command](s)
        answer = await s.send(ask)
        after = await s.history()

        status, code = OUTCOMES[cell.outcome]
        assert answer.outcome == (status, code if ask.method != "HEAD" else ""), answer
        assert answer.retryable is (cell.outcome in RETRYABLE)
        if cell.outcome == "again":
            assert len(after) == s.events
        assert await words(s) == WORDS[cell.after]
    finally:
        await kept.put(s)


async def words(s: Scene) -> tuple[str, str]:
    """Return the words of 1.0 and of 1.1, which are the same wherever they are shown."""
    paths = [f"/ivxp/status/{s.order_id}", f"/ivxp/orders/{s.order_id}"]
    plain = ["", "?view=strict", "?protocol=1.0"]
    rich = ["?protocol=1.1", "?protocol=IVXP/1.1&view=strict"]
    asks = [get(path + query) for path in paths for query in plain + rich]
    answers = await s.provider.wire.ask_all(asks)
    shown = [str(answer.body["status"]) for answer in answers]
    half = len(plain) + len(rich)
    assert shown[:half] == shown[half:]
    told = await last_told(s, shown[0])
    row = s.provider.row(s.order_id)
    assert row is not None
    order = await s.provider.order(s.order_id)
    assert order is not None
    assert row.status is order.status
    [one] = {*shown[: len(plain)], told[0]}
    [two] = {*shown[len(plain) : half], told[1]}
    return one, two


async def last_told(s: Scene, word: str) -> tuple[str, str]:
    """Return the words in the newest status event of the order's stream."""
    placed = s.provider.ledger.read_order(s.order_id)
    newest = max(p.position for p in placed if p.signed.event.kind in set(Status))
    frames = await backlog(s.provider.url, s.order_id, word, newest)
    last = [frame for frame in frames if frame.kind == "status_update"][-1]
    return last.data["status"], last.data["ledger_status"]


async def test_the_tables_have_every_state_and_every_command_once() -> None:
    for table in TABLES:
        assert [state for state, _ in rows_of(table)] == list(SCENES)
    commands = [command for table in TABLES for command in rows_of(table)[0][1]]
    assert commands == list(COMMANDS)
    assert {cell.outcome for cell in cells()} == set(OUTCOMES)
    assert {cell.after for cell in cells()} <= set(WORDS)
    assert {SHOWN_AS[rich] for _, rich in WORDS.values()} == set(Status)


SHOWN_AS: Final = {**{str(s): s for s in Status}, "client_confirmed": Status.CONFIRMED}
