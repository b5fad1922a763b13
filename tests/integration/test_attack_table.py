"""Every attack on the log against every auditor: who notices what, and that honesty is no finding.

The attacker is the provider, with all of its keys. What an auditor has besides the provider's own
files grows from column to column. Run with `-s` to see the table.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from ledger.audit import audit_snapshot
from ledger.audit_held import Held
from ledger.audit_others import Evidence
from ledger.audit_report import Report
from ledger.audit_rpc import Nodes
from ledger.audit_source import snapshot
from ledger.audit_witness import Witnesses
from ledger.checkpoint import LogKey, Note, parse_note
from ledger.cosignature import Cosigner
from ledger.entry import Draft, Seal, read_entry, seal
from ledger.event import Transfer
from ledger.log_events import PolicySet
from ledger.money import TransferId
from ledger.order_events import (
    DeliveryConfirmed,
    DeliveryDisputed,
    DisputeWithdrawn,
    OrderQuoted,
    QuoteExpired,
)
from ledger.payment_events import PaymentOrphaned
from ledger.signing import EVENT_PREFIX, Signer
from ledger.tiles import Tree
from ledger.values import LOG_STREAM, UnixMs, order_stream
from projections.runner import Projector
from scripts.audit_views import c17_views
from scripts.demo_forger import Change, History, Provider, drop_unnamed_content, history_of, without
from scripts.rebuild_views import EntrySource
from tests.integration import test_audit_attacks as forging
from tests.integration.test_audit_attacks import Forge
from tests.support import ledger_files as lf
from tests.support import market_forge
from tests.support.told_chain import ToldChain

OWN, EVENT, CHAIN, HEADS, WITNESS = range(5)
COLUMNS = ("own files", "+ one event", "+ chain, content", "+ heads, acks", "+ witness")
WALLET = Signer(lf.WALLET_SECRET)
PROVIDER = Provider(lf.ORIGIN, WALLET, LogKey(lf.ORIGIN, lf.LOG_SEED))
WITNESSING = Cosigner("witness.example/w1", b"\x0c" * 32)
EVERY = 10
GAP_S = 60
STORIES = (
    lf.collected,
    lf.paid_in_parts,
    lf.expired_then_late,
    lf.reorganised,
    lf.disputed_and_ruled,
    lf.disputed_and_withdrawn,
    lf.erased,
    lf.found_by_the_watcher,
    lf.never_mined_again,
)
ROUNDS = 4


@dataclass
class World:
    """One copy of the honest ledger under attack, and what the chain and others hold."""

    db: sqlite3.Connection
    guard: bytes
    held: "Kept"
    views: Path | None
    real: dict[str, int] = field(default_factory=dict)
    """Transactions that moved another amount than the log says."""
    invented: set[str] = field(default_factory=set)
    """Transactions that the chain never saw."""
    acks: list[Held] = field(default_factory=list)
    """Further answers that somebody keeps."""

    def forge(self) -> Forge:
        return Forge(self.db)

    def rewrite(self, change: Change) -> None:
        history = history_of(self.db)
        change(history)
        self.guard = PROVIDER.rewrite(self.db, history)
        drop_unnamed_content(self.db, history)
        self.views = None  # made anew from the events, too

    def nodes(self) -> Nodes:
        moved: dict[TransferId, Transfer] = {}
        times: dict[int, int] = {}
        for told in history_of(self.db):
            if isinstance(told.event, QuoteExpired):
                times[told.event.scanned_block] = told.event.scanned_block_time
            if isinstance(told.event, PaymentOrphaned):
                for item in told.event.transfers:
                    moved.pop(item.key, None)
            elif (found := getattr(told.event, "transfers", ())) and isinstance(found[0], Transfer):
                moved |= {t.key: t for t in found}
        shown = [
            t.model_copy(update={"amount": self.real.get(t.tx_hash, t.amount)})
            for t in moved.values()
            if t.tx_hash not in self.invented
        ]
        chain_id = int(lf.CHAIN.partition(":")[2])
        return Nodes([("told", ToldChain(chain_id, lf.TOKEN, shown, times))])


@dataclass(frozen=True)
class Kept:
    """What left the provider's hands while it was honest."""

    event: Held
    heads: tuple[Held, ...]
    acks: tuple[Held, ...]
    cosigned: tuple[Held, ...]


def kept_of(db: sqlite3.Connection) -> Kept:
    entries = [entry for (entry,) in db.execute("SELECT state FROM stored_events ORDER BY rowid")]
    heads, cosigned = [], []
    tree = Tree()
    for size, entry in enumerate(entries, start=1):
        signed = read_entry(entry)
        root = tree.append([signed.leaf]).root
        if size % EVERY == 0:
            note = PROVIDER.log_key.sign_checkpoint(lf.ORIGIN, size, root)
            heads.append(Held(f"head {size}", checkpoint=note))
            parsed = parse_note(note)
            line = WITNESSING.cosign(parsed.text, signed.at // 1000 + 1)
            both = Note(parsed.text, (*parsed.signatures, line)).encode()
            cosigned.append(Held(f"witnessed {size}", checkpoint=both))
    acks = [Held(f"ack {p}", p, e) for p, e in enumerate(entries, start=1) if p % 5 == 0]
    return Kept(
        Held("the buyer's event", entry=entries[-1]), tuple(heads), tuple(acks), tuple(cosigned)
    )


@pytest.fixture(scope="module")
def honest(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[sqlite3.Connection, bytes, Kept, Path]:
    """Return an honest ledger in memory, its guard, what others kept of it, and its views."""
    files = lf.LedgerFiles(tmp_path_factory.mktemp("honest"), forging.RECOVERY.address)
    ledger = files.open()
    ledger.start()
    teller = lf.Teller(ledger)

    async def tell() -> None:
        await lf.opening(teller)
        for story in STORIES * ROUNDS:
            await story(teller)

    asyncio.run(tell())
    ledger.close()
    views = files.data_dir / "views.db"
    with snapshot(files.database) as db:
        projector = Projector(EntrySource(db, ledger.head.size), views)
        projector.catch_up()
        projector.close()
    copy = lf.in_memory(files.database)
    return copy, files.guard.read_bytes(), kept_of(copy), views


STEPS = lf.remembering()


@pytest.fixture
def world(honest: tuple[sqlite3.Connection, bytes, Kept, Path]) -> Iterator[World]:
    db, guard, kept, views = honest
    with lf.undone(db):
        yield World(db, guard, kept, views)


def audited(world: World, column: int) -> Report:
    """Audit with what the auditor of a column has."""
    held: list[Held] = []
    if column == EVENT:
        held.append(world.held.event)
    if column >= HEADS:
        held += [*world.held.heads, *world.held.acks, *world.acks]
    if column == WITNESS:
        held += world.held.cosigned
    evidence = Evidence(
        held,
        Witnesses((WITNESSING.key,), 1, GAP_S) if column == WITNESS else None,
        world.nodes() if column >= CHAIN else None,
        absent=frozenset() if column >= CHAIN else frozenset({"content"}),
    )
    report = audit_snapshot(world.db, world.guard, steps=STEPS, evidence=evidence)
    if report.ok and world.views is not None:
        with snapshot(world.views) as views:
            c17_views(world.db, views, report)
    assert report.unknown == []
    return report


def checks_of(report: Report) -> frozenset[str]:
    return frozenset(finding.check for finding in report.findings)


# The attacks


def position_of(history: History, kind: type, number: int = 0) -> int:
    """Return the index of an event of a kind."""
    return [at for at, told in enumerate(history) if isinstance(told.event, kind)][number]


def a01_edit_without_keys(world: World) -> None:
    query = "SELECT rowid, state FROM stored_events WHERE topic='quoted' ORDER BY rowid"
    rowid, entry = world.db.execute(query).fetchone()
    changed = entry.replace(b'"price":"5000000"', b'"price":"4000000"')
    world.db.execute("UPDATE stored_events SET state=? WHERE rowid=?", (changed, rowid))


def a02_edit_signed_anew(world: World) -> None:
    query = "SELECT rowid, state FROM stored_events WHERE topic='quoted' ORDER BY rowid"
    rowid, entry = world.db.execute(query).fetchone()
    event = json.loads(entry)["event"]
    event["body"]["refund_policy"] = "ab" * 32
    sig = {"alg": "eip191", "by": WALLET.address}
    sig["value"] = WALLET.sign(EVENT_PREFIX + forging.canonical(event))
    changed = forging.canonical({"event": event, "sig": sig})
    world.db.execute("UPDATE stored_events SET state=? WHERE rowid=?", (changed, rowid))


def a03_rewritten_terms(world: World) -> None:
    def change(history: History) -> None:
        at = position_of(history, OrderQuoted)
        terms = history[at].event.model_copy(update={"refund_policy": "ab" * 32})
        history[at] = replace(history[at], event=terms)

    world.rewrite(change)


def a04_events_deleted(world: World) -> None:
    def change(history: History) -> None:
        streams = {history[position_of(history, DisputeWithdrawn, n)].stream for n in (0, 1)}
        gone = (DeliveryDisputed, DisputeWithdrawn)
        without(history, lambda told: told.stream in streams and isinstance(told.event, gone))

    world.rewrite(change)


def a05_truncated(world: World) -> None:
    def change(history: History) -> None:
        del history[position_of(history, OrderQuoted, -2) :]

    world.rewrite(change)


def a06_backdated_at_the_tail(world: World) -> None:
    forge = world.forge()

    def earlier(place: Seal) -> Seal:
        return replace(place, at=UnixMs(place.at - lf.HOUR))

    forge.add(LOG_STREAM, forging.POLICY, edit=earlier)
    world.guard = forge.guard()


def a07_swapped(world: World) -> None:
    def change(history: History) -> None:
        at = position_of(history, OrderQuoted, 5)
        first, second = history[at - 1], history[at]
        assert first.stream != second.stream
        slot = {"at": first.at, "base_size": first.base_size}
        other = {"at": second.at, "base_size": second.base_size}
        history[at - 1 : at + 1] = [replace(second, **slot), replace(first, **other)]

    world.rewrite(change)


def a08_split_view(world: World) -> None:
    def change(history: History) -> None:
        at = position_of(history, PolicySet)
        other = PolicySet(name="refund", digest="cd" * 32)
        history[at] = replace(history[at], event=other)

    world.rewrite(change)


def a10_deliverable_swapped(world: World) -> None:
    where = (
        "field='deliverable' AND rowid=(SELECT min(rowid) FROM content WHERE field='deliverable')"
    )
    world.db.execute(f"UPDATE content SET value=? WHERE {where}", (b"the deliverablE\n",))  # noqa: S608


def a12_acknowledged_never_logged(world: World) -> None:
    forge = world.forge()
    case = forge.quoted()
    size = len(forge.leaves)
    stream = order_stream(case.order_id)
    seq, leaf = forge.heads[stream]
    expired = QuoteExpired(scanned_block=1, scanned_block_time=2**39)
    place = Seal(lf.ORIGIN, stream, seq + 1, leaf, UnixMs(forge.now + 500), forge.head())
    promised = seal(Draft(expired, {}), place, WALLET)
    world.acks.append(Held("the answer", size + 1, promised.entry))
    forge.add(LOG_STREAM, forging.POLICY)
    world.guard = forge.guard()


def a13_illegal_step(world: World) -> None:
    forge = world.forge()
    case = forge.delivered()
    again = case.transfer("again")
    world.invented.add(again.tx_hash)
    case.add(case.payment(transfers=(again,)))
    world.guard = forge.guard()


def a17_status_edited(world: World, folder: Path) -> None:
    edited = folder / "views.db"
    assert world.views is not None
    edited.write_bytes(world.views.read_bytes())
    with sqlite3.connect(edited) as db:
        db.execute("UPDATE orders SET status='refunded' WHERE rowid=1")
    db.close()
    world.views = edited


def a18_bit_flip_in_a_tile(world: World) -> None:
    (hashes,) = world.db.execute("SELECT hashes FROM tiles WHERE level=0").fetchone()
    flipped = bytes([hashes[0] ^ 1]) + hashes[1:]
    world.db.execute("UPDATE tiles SET hashes=? WHERE level=0 AND tile_index=0", (flipped,))


def a19_outsiders_checkpoint(world: World) -> None:
    head = world.forge().head()
    key = LogKey(lf.ORIGIN, b"\x09" * 32)
    world.guard = key.sign_checkpoint(lf.ORIGIN, head.size, bytes.fromhex(head.root)).encode()


def a21_amount_misreported(world: World) -> None:
    forge = world.forge()
    case = forge.paid()
    world.real[case.transfer().tx_hash] = lf.PRICE - 1
    world.guard = forge.guard()


def carried_on(act: Callable[[Forge], None], world: World) -> None:
    """Carry the log on honestly but for one event."""
    forge = world.forge()
    act(forge)
    world.guard = forge.guard()


def on_the_market(name: str) -> Callable[[World], None]:
    """Return one of the lies about the marketplace, told by name."""
    lie, _ = market_forge.CHECKS_OF[name]
    return partial(carried_on, lambda forge: lie(market_forge.Market(forge)))


ATTACKS: dict[str, Callable[..., None]] = {
    "01 edit without keys": a01_edit_without_keys,
    "02 edit, signed anew": a02_edit_signed_anew,
    "03 rewrite: terms of a quote": a03_rewritten_terms,
    "04 rewrite: events deleted": a04_events_deleted,
    "05 rollback, truncation": a05_truncated,
    "06 backdated at the tail": a06_backdated_at_the_tail,
    "07 rewrite: two orders swapped": a07_swapped,
    "08 split view": a08_split_view,
    "09 one transfer, two orders": partial(carried_on, forging.one_transfer_for_two_orders),
    "10 deliverable swapped": a10_deliverable_swapped,
    "11 confirmation forged": partial(carried_on, forging.a_receipt_with_a_broken_signature),
    "12 acknowledged, never logged": a12_acknowledged_never_logged,
    "13 illegal step, logged": a13_illegal_step,
    "14 duplicate key": partial(carried_on, forging.a_repeated_key),
    "15 unauthorised key": partial(carried_on, forging.a_foreign_key),
    "16 replay from another log": partial(carried_on, forging.another_log),
    "17 status column edited": a17_status_edited,
    "18 bit flip in a tile": a18_bit_flip_in_a_tile,
    "19 outsider's checkpoint": a19_outsiders_checkpoint,
    "20 expired early": partial(carried_on, forging.an_early_expiry),
    "21 amount misreported": a21_amount_misreported,
    "22 an old withdrawal shown again": partial(carried_on, forging.an_old_withdrawal_again),
    "23 a step of an offer that was over": on_the_market("paid after it was declined"),
    "24 an offer in nobody's conversation": on_the_market("an offer without a conversation"),
    "25 a payment divided otherwise": on_the_market("a larger commission"),
    "26 a payment that nobody signed": on_the_market("another amount than was signed"),
    "27 one signature, two orders": on_the_market("one signature for two orders"),
}

Row = tuple[set[str], set[str], set[str], set[str], set[str]]
REWRITTEN: Row = (
    set(),
    {"C24", "C25"},
    set(),
    {"C20", "C21", "C23", "C24", "C25"},
    {"C20", "C21", "C22", "C23", "C24", "C25"},
)


def always(*checks: str) -> Row:
    """Return the row of an attack that every auditor notices by the same checks."""
    return (set(checks), set(checks), set(checks), set(checks), set(checks))


TABLE: dict[str, Row] = {
    "01 edit without keys": (
        {"C04", "C05", "C07", "C09", "C13", "C20"},
        {"C04", "C05", "C07", "C09", "C13", "C20", "C25"},
        {"C04", "C05", "C07", "C09", "C13", "C20"},
        {"C04", "C05", "C07", "C09", "C13", "C20", "C23", "C24", "C25"},
        {"C04", "C05", "C07", "C09", "C13", "C20", "C22", "C23", "C24", "C25"},
    ),
    "02 edit, signed anew": (
        {"C05", "C07", "C09", "C20"},
        {"C05", "C07", "C09", "C20", "C25"},
        {"C05", "C07", "C09", "C20"},
        {"C05", "C07", "C09", "C20", "C23", "C24", "C25"},
        {"C05", "C07", "C09", "C20", "C22", "C23", "C24", "C25"},
    ),
    "03 rewrite: terms of a quote": REWRITTEN,
    "04 rewrite: events deleted": (
        *REWRITTEN[:HEADS],
        REWRITTEN[HEADS] | {"C19"},
        REWRITTEN[WITNESS] | {"C19"},
    ),
    "05 rollback, truncation": (
        set(),
        {"C24", "C25"},
        set(),
        {"C19", "C23", "C24", "C25"},
        {"C19", "C23", "C24", "C25"},
    ),
    "06 backdated at the tail": (
        {"C10"},
        {"C10"},
        {"C10"},
        {"C10"},
        {"C10", "C11"},
    ),
    "07 rewrite: two orders swapped": REWRITTEN,
    "08 split view": REWRITTEN,
    "09 one transfer, two orders": always("C12"),
    "10 deliverable swapped": (set(), set(), {"C15"}, {"C15"}, {"C15"}),
    "11 confirmation forged": always("C16"),
    "12 acknowledged, never logged": (set(), set(), set(), {"C23", "C24"}, {"C23", "C24"}),
    "13 illegal step, logged": (
        {"C08"},
        {"C08"},
        {"C08", "C13"},
        {"C08", "C13"},
        {"C08", "C13"},
    ),
    "14 duplicate key": always("C01"),
    "15 unauthorised key": always("C04"),
    "16 replay from another log": always("C03"),
    "17 status column edited": always("C17"),
    "18 bit flip in a tile": always("C05"),
    "19 outsider's checkpoint": always("C18"),
    "20 expired early": always("C14"),
    "21 amount misreported": (set(), set(), {"C13"}, {"C13"}, {"C13"}),
    "22 an old withdrawal shown again": always("C16"),
    "23 a step of an offer that was over": always("C08"),
    "24 an offer in nobody's conversation": always("C08"),
    "25 a payment divided otherwise": always("C13"),
    "26 a payment that nobody signed": always("C16"),
    "27 one signature, two orders": always("C12"),
}
"""Who notices what: for each attack and each auditor exactly the checks that have findings."""

UNNOTICED_WITH_ONE_EVENT = {
    "10 deliverable swapped": "the content was not handed over",
    "12 acknowledged, never logged": "somebody else holds the acknowledgement",
    "21 amount misreported": "the chain was not asked",
}


@pytest.mark.parametrize("column", range(len(COLUMNS)), ids=COLUMNS)
def test_the_honest_run_has_no_finding_in_any_column(world: World, column: int) -> None:
    report = audited(world, column)

    assert (report.findings, report.unknown) == ([], [])


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_each_auditor_notices_the_attack_by_the_checks_of_the_table(
    world: World, attack: str, tmp_path: Path
) -> None:
    act = ATTACKS[attack]
    if act is a17_status_edited:
        act(world, tmp_path)
    else:
        act(world)

    noticed = [set(checks_of(audited(world, column))) for column in range(len(COLUMNS))]

    print(attack, *(" ".join(sorted(cell)) or "-" for cell in noticed), sep=" | ")  # noqa: T201 - the table
    assert noticed == list(TABLE[attack])


def test_one_kept_event_is_enough_but_where_content_chain_or_an_answer_is_needed() -> None:
    unnoticed = {attack for attack, row in TABLE.items() if not row[EVENT]}

    assert unnoticed == UNNOTICED_WITH_ONE_EVENT.keys()
    assert all(row[HEADS] and row[WITNESS] for row in TABLE.values())
    assert TABLE.keys() == ATTACKS.keys()


def test_a_receipt_that_names_a_head_shows_a_rewritten_log_to_everybody(world: World) -> None:
    forge = world.forge()
    case = forge.delivered()
    head = forge.head()
    text = (
        f"Order: {case.order_id} | Received: true | Hash: {forging.RAW_DIGEST}"
        f" | Head: {head.size}:{head.root} | Timestamp: {case.stamp}"
    )
    receipt = DeliveryConfirmed(
        client=lf.CLIENT.sign(text), binds="content", content_hash=forging.RAW_DIGEST, head=head
    )
    case.add(receipt)
    world.guard = forge.guard()
    assert audit_snapshot(world.db, world.guard, steps=STEPS).unknown == []

    a03_rewritten_terms(world)

    report = audit_snapshot(world.db, world.guard, steps=STEPS)
    assert report.findings == []
    assert [(unknown.check, unknown.position) for unknown in report.unknown] == [
        ("C16", len(forge.leaves))
    ]
