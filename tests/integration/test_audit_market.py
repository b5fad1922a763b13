"""The audit of a marketplace: honest ones have no finding, and every lie is found by its rule."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import pytest

from ledger.audit import audit_snapshot
from ledger.audit_copy import ABSENT, LedgerCopy
from ledger.audit_others import Evidence
from ledger.audit_report import Book
from ledger.audit_source import snapshot
from ledger.audit_span import EVERY_STREAM
from ledger.audit_streams import StreamPass
from tests.integration.test_audit_attacks import Forge
from tests.support import ledger_files as lf
from tests.support import market_forge as mf
from tests.support.market_stories import MARKET_STORIES

STEPS = lf.remembering()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> lf.LedgerFiles:
    """Return a ledger that holds every story of the marketplace, and one of another order."""
    files = lf.LedgerFiles(tmp_path_factory.mktemp("market"))
    ledger = files.open()
    ledger.start()
    teller = lf.Teller(ledger)

    async def tell() -> None:
        await lf.opening(teller)
        for story in MARKET_STORIES:
            await story(teller)
        await lf.disputed_and_ruled(teller)

    asyncio.run(tell())
    ledger.close()
    return files


@pytest.fixture(scope="module")
def honest(files: lf.LedgerFiles) -> sqlite3.Connection:
    return lf.in_memory(files.database)


@pytest.fixture
def market(honest: sqlite3.Connection) -> Iterator[mf.Market]:
    with lf.undone(honest):
        yield mf.Market(Forge(honest))


def test_an_honest_marketplace_has_no_finding(files: lf.LedgerFiles) -> None:
    with snapshot(files.database) as db:
        report = audit_snapshot(db, files.guard.read_bytes())

    assert (report.findings, report.unknown) == ([], [])
    assert all(report.checked[check] > 0 for check in ("C08", "C12", "C13", "C15", "C16", "C27"))


def test_what_the_rules_allow_is_no_finding_when_forged(market: mf.Market) -> None:
    market.proposed().add(
        mf.countered(),
        market.waiting(),
        market.voided(),
        market.paid(market.payment(lf.PRICE - 1, number=2)),
        market.settled(market.paid(market.payment(number=2))).model_copy(
            update={"signature": market.payment(lf.PRICE - 1, number=2).signature()}
        ),
        mf.WORK,
        market.made(),
        market.complaint(),
    )
    market.add(market.ruling(lf.PRICE - 1), mf.REVIEW)
    market.of_agent(mf.UPDATED).of_talk(market.message())

    assert audit_snapshot(market.forge.db, market.forge.guard(), steps=STEPS).findings == []


@pytest.mark.parametrize("name", list(mf.CHECKS_OF))
def test_each_lie_is_found_by_its_rule_and_by_no_other(market: mf.Market, name: str) -> None:
    lie, checks = mf.CHECKS_OF[name]

    lie(market)
    report = audit_snapshot(market.forge.db, market.forge.guard(), steps=STEPS)

    assert {finding.check for finding in report.findings} == checks, report.findings


def test_one_order_alone_is_folded_without_its_conversation(
    files: lf.LedgerFiles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A party is shown its order and no stream of the marketplace: that is no finding."""
    path = tmp_path_factory.mktemp("copy") / "order.db"
    ledger = files.open()
    placed = [(each.position, each.signed) for each in ledger.read(after=0, limit=10_000)]
    ledger.close()
    stream = next(signed.stream for _, signed in placed if signed.event.kind == "order_reviewed")
    copy = LedgerCopy(path)
    copy.add_entries((at, signed.entry) for at, signed in placed if signed.stream == stream)
    copy.close()

    found = {}
    for whole in (False, True):
        book = Book(100)
        with snapshot(path) as db:
            StreamPass(db, book, None, whole=whole).run(EVERY_STREAM, lambda _: None)
        found[whole] = {finding.check for finding in book.report.findings}

    assert found == {False: set(), True: {"C08"}}


def test_an_auditor_from_outside_finds_the_claims_in_the_events(market: mf.Market) -> None:
    mf.one_signature_for_two_orders(market)
    db, guard = market.forge.db, market.forge.guard()

    report = audit_snapshot(db, guard, steps=STEPS, evidence=Evidence(absent=ABSENT))

    assert {finding.check for finding in report.findings} == {"C12"}
