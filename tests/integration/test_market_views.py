"""How much the marketplace reads for an answer: what is shown, and no more of it where all wait.

Bounds are on steps, plans and contents, never on time.
"""

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import cache
from hashlib import sha256
from pathlib import Path

import base58
import orjson
import pytest

from api.aether import agents, searching
from api.aether.inboxes import MAX_NEW_DELIVERIES
from api.aether.profiles import MAX_SERVICES, MAX_SERVICES_BYTES
from api.aether.queries import MAX_DELIVERIES
from api.keys import LEDGER, TOKENS
from ledger.service import Ledger
from ledger.store import SqliteStore
from ledger.store_sqlite import ContentRow
from ledger.values import agent_stream
from projections import runner as runner_module
from projections.market_reader import MarketReader
from projections.runner import Projector
from projections.schema import TABLES, open_views
from tests.contract.kit import Service, serving
from tests.support import ledger_files as lf
from tests.support.faults import seed
from tests.support.market import AGENT, CLIENT, Json, Stall, market_settings, pay
from tests.support.market_stories import MARKET_STORIES, SELLER

SIDES = {"agent_wallet": "me", "client_wallet": "me"}
OPERATOR = "0x" + "11" * 20

PAGES: dict[str, Callable[[MarketReader], object]] = {
    "agents of a wallet": lambda m: m.agents_of("me"),
    "listed agents": lambda m: m.listed(),
    "the record of an agent": lambda m: m.record_of(agent="agent 1"),
    "the record of a wallet": lambda m: m.record_of(wallet="me"),
    "conversations": lambda m: m.conversations_of("me", 5, 0),
    "orders": lambda m: m.deals_of(SIDES, None, 5, 0),
    "orders of one side": lambda m: m.deals_of({"client_wallet": "me"}, None, 5, 0),
    "orders of a word": lambda m: m.deals_of(SIDES, "PAID", 5, 0),
    "orders of two wallets": lambda m: m.deals_of({**SIDES, "client_wallet": "you"}, None, 5, 0),
    "new deliveries": lambda m: m.delivered_in("talk", 5, None),
    "old deliveries": lambda m: m.delivered_in("talk", 5, 0),
    "payouts": lambda m: m.paid((-1, ""), 5),
    "messages": lambda m: m.messages("talk", 5, None, 0),
}
SUMS_OF_DEALS = (
    "SELECT count(paid_ms), count(delivered_ms), ifnull(sum(amount_micros), 0),"
    " ifnull(sum(payout_micros), 0), count(rating), ifnull(sum(rating), 0) FROM deals"
    " WHERE agent_wallet=?"
)
SUMS_OF_TALKS = (
    "SELECT count(*), ifnull(sum(answered_ms - asked_ms), 0) FROM conversations"
    " WHERE agent_wallet=? AND answered_ms >= asked_ms"
)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return what makes views of a size, each once."""
    folder = tmp_path_factory.mktemp("views")
    return cache(lambda count: filled(folder / f"{count}.db", count))


def filled(path: Path, count: int) -> Path:
    """Return views with this many deals and conversations of one wallet, half on each side."""
    db = open_views(path)
    for number in range(count):
        mine = number % 2
        wallets = ("me", f"other {number}") if mine else (f"other {number}", "me")
        deal = (f"order {number}", "talk", f"agent {number}", *wallets, "DELIVERED")
        times = (number, number, 1, 1, number, number, 5)
        db.execute("INSERT INTO deals VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", (*deal, *times))
        talk = (f"talk {number}", f"agent {number}", *wallets, "agent", 1, number, 1, 2)
        db.execute("INSERT INTO conversations VALUES (?,?,?,?,?,?,?,?,?)", talk)
        said = (number + 1, "talk", f"m {number}", "agent", "text", None, None, number)
        db.execute("INSERT INTO messages VALUES (?,?,?,?,?,?,?,?)", said)
    for number in range(3):
        record = (f"agent {number}", "me", 1, 1, 1, 1, 1, 5, 1, 1)
        db.execute("INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?,?)", record)
        agent = (f"agent {number}", "me", "profile", None, 1, 1, 1, number)
        db.execute("INSERT INTO agents VALUES (?,?,?,?,?,?,?,?)", agent)
    db.conn.commit()
    db.close()
    return path


def steps(reader: MarketReader, read: Callable[[MarketReader], object]) -> int:
    """Return how many steps of its machine SQLite takes."""
    taken = [0]

    def count() -> int:
        taken[0] += 1
        return 0

    reader._db.set_progress_handler(count, 1)
    read(reader)
    reader._db.set_progress_handler(None, 1)
    return taken[0]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_costs_the_same_of_many_rows_as_of_few(
    views: Callable[[int], Path], name: str
) -> None:
    with (
        closing(MarketReader(views(40))) as few,
        closing(MarketReader(views(4_000))) as many,
    ):
        small, large = steps(few, PAGES[name]), steps(many, PAGES[name])

    assert large <= small + 20


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_read_from_an_index_in_its_order(
    views: Callable[[int], Path], name: str
) -> None:
    asked: list[str] = []
    with closing(MarketReader(views(40))) as reader:
        reader._db.set_trace_callback(asked.append)
        PAGES[name](reader)
        reader._db.set_trace_callback(None)
        plans = [
            str(row[3])
            for query in asked
            for row in reader._db.execute(f"EXPLAIN QUERY PLAN {query}")
        ]

    assert plans
    assert [plan for plan in plans if "TEMP B-TREE" in plan] == []
    assert [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan] == []


def test_the_sides_of_a_wallet_make_one_list(tmp_path: Path) -> None:
    with closing(MarketReader(filled(tmp_path / "views.db", 30))) as reader:
        orders = [reader.deals_of(SIDES, None, 7, at) for at in range(0, 35, 7)]
        both = {"agent_wallet": "other 4", "client_wallet": "me"}
        two_wallets = reader.deals_of(both, None, 50, 0)
        talks = [reader.conversations_of("me", 7, at) for at in range(0, 35, 7)]

    newest = range(29, -1, -1)
    assert [each for page in orders for each in page] == [f"order {n}" for n in newest]
    assert [each.conversation for page in talks for each in page] == [f"talk {n}" for n in newest]
    assert two_wallets == [f"order {n}" for n in newest if n % 2 == 0]


async def test_records_are_the_sums_of_deals_and_answers_however_events_are_batched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed())  # noqa: S311 - a reproducible choice
    ledger = lf.LedgerFiles(tmp_path).open()
    ledger.start()
    teller = lf.Teller(ledger)
    await lf.opening(teller)
    live = Projector(ledger, tmp_path / "live.db")
    for story in (*MARKET_STORIES, *chance.choices(MARKET_STORIES, k=6)):
        await story(teller)
        monkeypatch.setattr(runner_module, "BATCH", chance.randint(1, 30))
        live.catch_up()
    live.close()
    anew = Projector(ledger, tmp_path / "anew.db")
    monkeypatch.setattr(runner_module, "BATCH", 10_000)
    anew.catch_up()
    anew.close()
    ledger.close()

    assert tables(tmp_path / "live.db") == tables(tmp_path / "anew.db")
    with closing(MarketReader(tmp_path / "live.db")) as reader:
        [(row, record)] = reader.listed()
        by_hand = [
            value
            for query in (SUMS_OF_DEALS, SUMS_OF_TALKS)
            for value in reader._db.execute(query, (SELLER.address,)).fetchone()
        ]
        assert record == reader.record_of(agent=row.agent)
        assert record == reader.record_of(wallet=SELLER.address)
    assert [getattr(record, name) for name in record.__slots__] == by_hand
    assert all(by_hand)


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        names = sorted(TABLES - {"_sqlite_migrations"})
        return {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}  # noqa: S608 - fixed words


class Contents:
    """Notes which contents the service reads, and refuses it those in the thread of the loop."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        self.loop_may = True
        self._loop = threading.get_ident()
        real = SqliteStore.content

        def content(store: SqliteStore, content_id: str) -> ContentRow | None:
            self._note(content_id)
            return real(store, content_id)

        patch.setattr(SqliteStore, "content", content)

    def _note(self, content_id: str) -> None:
        assert self.loop_may or threading.get_ident() != self._loop, "on the event loop"
        self.read.append(content_id)

    def begin(self) -> None:
        """Count from here on, in other threads than this one."""
        self.read.clear()
        self.loop_may = False


async def test_a_search_reads_what_it_shows_and_one_runs_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = [0], [0]
    real = searching.found_agents

    def watched(*args: object) -> bytes:
        running[0] += 1
        most[0] = max(most[0], running[0])
        found = real(*args)  # type: ignore[arg-type]
        running[0] -= 1
        return found

    monkeypatch.setattr(agents, "found_agents", watched)
    contents = Contents(monkeypatch)
    async with open_market(tmp_path) as stall:
        for number in range(12):
            body = {"name": f"a{number}", "ownerWallet": AGENT, "services": [{"title": "s"}]}
            await stall.done("POST", "/agents/register", body)
        contents.begin()
        found = await stall.done("GET", "/agents/search?limit=2&offset=1")
        page = len(contents.read)
        contents.read.clear()
        nothing = await stall.done("GET", "/agents/search?query=nowhere")
        every = len(contents.read)
        await asyncio.gather(*(stall.done("GET", "/agents/search") for _ in range(8)))

    assert [each["name"] for each in found["agents"]] == ["a0", "a1"]
    # The one before the page is looked at, those on it are looked at and shown.
    assert page <= 2 * (1 + 2 * 2)
    assert (nothing, every) == ({"agents": []}, 25)
    assert most == [1]


async def test_deliveries_come_in_pages_and_are_read_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = Contents(monkeypatch)
    count = MAX_DELIVERIES + 3
    async with open_market(tmp_path, compat_batch=100) as stall:
        orders = [await delivered_order(stall) for _ in range(count)]
        path = f"/conversations/{stall.talk}/deliveries"
        contents.begin()
        newest = ids(await stall.done("GET", path))
        largest = ids(await stall.done("GET", f"{path}?limit=500&offset=2"))
        few = ids(await stall.done("GET", f"{path}?limit=2"))
        after = ids(await stall.done("GET", f"{path}?offset={count}"))
        read = len(contents.read)
        polls = [ids(await stall.done("GET", f"{path}/new")) for _ in range(4)]

    assert newest == orders[-MAX_DELIVERIES:]
    assert largest == orders[2 : 2 + MAX_DELIVERIES]
    assert (few, after) == (orders[-2:], [])
    assert read == 2 * MAX_DELIVERIES + 2
    assert [len(poll) for poll in polls] == [MAX_NEW_DELIVERIES, MAX_NEW_DELIVERIES, 3, 0]
    assert [each for poll in polls for each in poll] == orders


async def test_a_long_delivery_arrives_whole(tmp_path: Path) -> None:
    result = ["ü" * 1_000] * 150
    async with open_market(tmp_path) as stall:
        order_id = await delivered_order(stall, result)
        listed = await stall.done("GET", f"/conversations/{stall.talk}/deliveries")
        polled = await stall.done("GET", f"/conversations/{stall.talk}/deliveries/new")

    assert listed == polled
    assert [(each["id"], each["result"]) for each in listed["deliveries"]] == [(order_id, result)]


async def test_erasing_reads_a_stream_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_market(tmp_path, operators=OPERATOR) as stall:
        loop, real, reads = threading.get_ident(), Ledger.read_stream, []

        def read_stream(ledger: Ledger, stream: str) -> object:
            reads.append(threading.get_ident() != loop)
            return real(ledger, stream)

        monkeypatch.setattr(Ledger, "read_stream", read_stream)
        token, _ = stall.service.app[TOKENS].issue(OPERATOR, stall.service.app[LEDGER].clock())
        async with stall.session.post(
            f"{stall.url}/v1/conversations/{stall.talk}/erase",
            json={"reason": "request"},
            headers={"Authorization": f"Bearer {token}"},
        ) as response:
            body = await response.json()

    assert (response.status, len(body["erased"]), body["left"]) == (200, 1, 0)
    assert reads == [True]


async def test_an_agent_has_at_most_a_hundred_services(tmp_path: Path) -> None:
    async with open_market(tmp_path) as stall:
        body = {"wallet": AGENT, "services": [{"title": f"s{n}"} for n in range(MAX_SERVICES)]}
        await stall.done("PUT", "/agents/services", body)
        one = {"ownerWallet": AGENT, "name": "s7", "price": 1}
        replaced = await stall.done("POST", "/agents/services", one)
        status, refused = await stall.call("POST", "/agents/services", {**one, "name": "new"})
        shown = await stall.done("GET", f"/agents/{stall.agent}")

    assert len(replaced["services"]) == MAX_SERVICES
    assert (status, refused["error"], refused["details"]) == (
        400,
        "INVALID_REQUEST",
        {"field": "services"},
    )
    assert shown["services"] == replaced["services"]


async def test_the_services_of_an_agent_have_at_most_64_kib(tmp_path: Path) -> None:
    async with open_market(tmp_path) as stall:
        statuses = []
        for number in range(6):
            body = {"ownerWallet": AGENT, "name": f"s{number}", "description": "d" * 16_000}
            statuses.append((await stall.call("POST", "/agents/services", body))[0])
        shown = await stall.done("GET", f"/agents/{stall.agent}")

    assert statuses == [200] * 4 + [400] * 2
    assert len(orjson.dumps(shown["services"])) <= MAX_SERVICES_BYTES


async def test_an_agent_that_was_taken_out_of_the_search_can_come_back(tmp_path: Path) -> None:
    async with open_market(tmp_path) as stall:
        path = f"/agents/{stall.agent}"

        async def names() -> list[str]:
            return [e["name"] for e in (await stall.done("GET", "/agents/search"))["agents"]]

        await stall.done("DELETE", path, {"wallet": AGENT})
        gone = await names()
        back = await stall.done("PATCH", path, {"wallet": AGENT, "listed": True})
        there = await names()
        updates = {"listed": False, "name": "Copyist"}
        changed = await stall.done("PATCH", path, {"wallet": AGENT, "updates": updates})
        word = await stall.call("PATCH", path, {"wallet": AGENT, "listed": "yes"})
        stranger = await stall.call("PATCH", path, {"wallet": CLIENT, "listed": True})
        placed = stall.service.app[LEDGER].read_stream(agent_stream(stall.agent))

    assert (gone, back["listed"], back["name"], there) == ([], True, "Scribe", ["Scribe"])
    assert (changed["listed"], changed["name"]) == (False, "Copyist")
    assert (word[0], word[1]["details"], stranger[0]) == (400, {"field": "listed"}, 404)
    # To be listed again, nothing is stored again.
    stored = [getattr(each.signed.event, "profile_id", None) is not None for each in placed]
    assert stored == [True, False, False, True]


class Shop(Stall):
    """A stall, and the service that it stands in."""

    service: Service


@asynccontextmanager
async def open_market(folder: Path, **changes: object) -> AsyncIterator[Shop]:
    """Run an open marketplace with one agent and one conversation."""
    async with serving(folder, **market_settings(**changes)) as service:  # type: ignore[arg-type]
        stall = Shop(service.session, service.url)
        stall.service = service
        await stall.open()
        yield stall


async def delivered_order(stall: Stall, result: object = "done") -> str:
    order_id = await stall.offer()
    # Of equal transfers only the first would pay.
    blockhash = base58.b58encode(sha256(order_id.encode()).digest()).decode()
    await stall.accept(order_id, pay(None, blockhash=blockhash))
    status, _ = await stall.deliver(order_id, result)
    assert status == 200
    return order_id


def ids(body: Json) -> list[str]:
    return [each["id"] for each in body["deliveries"]]
