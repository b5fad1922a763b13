"""Receipts that a provider forged with its own keys: the audit and the bundle's rules find them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from ledger.audit import audit_snapshot
from ledger.entry import SignedEvent, read_entry
from ledger.evidence_verify.basics import Bad
from ledger.evidence_verify.rules import fold_order
from ledger.evidence_verify.shapes import Entry
from ledger.order_events import OrderRefunded, ReceiptRecorded
from ledger.values import iso_of, order_stream, stream_key
from tests.integration.test_audit_attacks import RECOVERY, Case, Forge
from tests.support import ledger_files as lf

OPERATOR = lf.Wallet("operator")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    files = lf.write_ledger(tmp_path_factory.mktemp("honest"), events=30, recovery=RECOVERY.address)
    return lf.in_memory(files.database)


@pytest.fixture
def forge(honest: sqlite3.Connection) -> Iterator[Forge]:
    with lf.undone(honest):
        yield Forge(honest)


def event_of(case: Case, kind: str) -> tuple[int, SignedEvent]:
    """Return an event of an order with its position."""
    rows = case.forge.db.execute(
        "SELECT rowid, state FROM stored_events WHERE originator_id=? AND topic=?",
        (stream_key(order_stream(case.order_id)), kind),
    ).fetchall()
    return rows[-1][0], read_entry(rows[-1][1])


def receipt(
    case: Case,
    kind: str = "paid",
    by: lf.Wallet = lf.CLIENT,
    **changes: Any,  # noqa: ANN401
) -> ReceiptRecorded:
    """Return the honest receipt for an event of an order, with changes to its body."""
    position, event = event_of(case, kind)
    leaf, stamp = event.leaf.hex(), changes.pop("stamp", iso_of(case.forge.now))
    text = f"Receipt: {position}-{leaf} | Kind: read | Hash: none | Timestamp: {stamp}"
    body: dict[str, Any] = {
        "position": position,
        "leaf": leaf,
        "sender": "client" if event.event.actor == "client" else "provider",
        "said": "read",
        "receiver": by.sign(text),
    }
    return ReceiptRecorded(**{**body, **changes})


def judged(case: Case) -> tuple[set[str], bool]:
    """Return the checks of the audit that fail, and whether the bundle's rules refuse the order."""
    report = audit_snapshot(case.forge.db, case.forge.guard())
    rows = case.forge.db.execute(
        "SELECT rowid, state FROM stored_events WHERE originator_id=? ORDER BY rowid",
        (stream_key(order_stream(case.order_id)),),
    )
    entries = [Entry(raw, position - 1) for position, raw in rows]
    try:
        fold_order(entries)
    except Bad:
        return {finding.check for finding in report.findings}, True
    return {finding.check for finding in report.findings}, False


def test_honest_receipts_stand_in_every_status_and_after_the_refund(forge: Forge) -> None:
    case = forge.delivered()
    case.add(receipt(case)).add(receipt(case, "ready")).add(case.receipt())
    case.add(receipt(case, "confirmed", OPERATOR)).add(receipt(case, "confirmed", lf.CLIENT))
    case.add(case.back()).add(OrderRefunded(reason="returned", amount=lf.PRICE))
    case.add(receipt(case, "refunded"))

    assert judged(case) == (set(), False)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"by": OPERATOR}, {"C16"}),
        ({"said": "processed"}, {"C16"}),
        ({"content_hash": "ab" * 32}, {"C16"}),
        ({"position": 1}, {"C08", "C16"}),
        ({"leaf": "ab" * 32}, {"C08", "C16"}),
        ({"sender": "client"}, {"C08"}),
    ],
)
def test_a_receipt_that_says_otherwise_is_found(
    forge: Forge, changes: dict[str, Any], check: set[str]
) -> None:
    case = forge.ready()
    case.add(receipt(case, **changes))

    assert judged(case) == (check, True)


def test_a_receipt_for_another_orders_event_is_found(forge: Forge) -> None:
    one, other = forge.ready(), forge.quoted()
    other.add(receipt(one))

    assert judged(other) == ({"C08"}, True)


def test_a_receipt_that_is_recorded_twice_is_found(forge: Forge) -> None:
    case = forge.ready()
    case.add(receipt(case)).add(receipt(case))

    assert judged(case) == ({"C08"}, True)


def test_a_receipt_for_a_receipt_is_found(forge: Forge) -> None:
    case = forge.ready()
    case.add(receipt(case)).add(receipt(case, "receipt_recorded", OPERATOR))

    assert judged(case) == ({"C08"}, True)


def test_a_receipt_of_another_time_is_found(forge: Forge) -> None:
    case = forge.ready()
    case.add(receipt(case, stamp="2020-01-01T00:00:00Z"))

    assert "C16" in judged(case)[0]
