"""What others hold, form by form: what it says, whose word it is, and what contradicts it."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from collections.abc import Iterator

import pytest

from ledger.audit import audit_snapshot
from ledger.audit_forms import HeldUnreadable, read_held
from ledger.audit_held import Held
from ledger.audit_others import Evidence, Others
from ledger.audit_report import Book, Report
from ledger.canonical import canonical
from ledger.checkpoint import LogKey
from ledger.event import TreeHead
from ledger.log_events import Continues
from ledger.order_events import PushAttempted
from ledger.signing import ORDER_HEAD_PREFIX, Signer
from ledger.values import order_stream
from tests.integration.test_audit_attacks import RECOVERY, STRANGER, Case, Forge
from tests.support import ledger_files as lf

WALLET = Signer(lf.WALLET_SECRET)
ROOT = bytes(range(32))
EARLIER = LogKey("ledger.example/zero", b"\x0d" * 32)
CONTINUES = Continues(origin="ledger.example/zero", head=TreeHead(size=9, root=ROOT.hex()))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    files = lf.write_ledger(tmp_path_factory.mktemp("held"), events=60, recovery=RECOVERY.address)
    return lf.in_memory(files.database)


@pytest.fixture
def forge(honest: sqlite3.Connection) -> Iterator[Forge]:
    with lf.undone(honest):
        yield Forge(honest)


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.check, finding.message) for finding in report.findings]


# The end of an order


def order_head(case: Case, *, by: Signer = WALLET, **changes: object) -> Held:
    """Return the signed end of an order as it is now, but for the changes."""
    forge, stream = case.forge, order_stream(case.order_id)
    seq, leaf = forge.heads[stream]
    said = {"log": lf.ORIGIN, "stream": stream, "seq": seq, "leaf": leaf, "size": len(forge.leaves)}
    text = (ORDER_HEAD_PREFIX + canonical({**said, **changes})).decode()
    return Held("the end", order_head=(text, by.sign(text.encode())))


def judged(forge: Forge, held: Held) -> list[tuple[str, str]]:
    return found(audit_snapshot(forge.db, forge.guard(), evidence=Evidence([held])))


def test_the_end_of_an_order_is_compared_with_the_event_it_names(forge: Forge) -> None:
    case = forge.delivered()
    honest = order_head(case)
    later = order_head(case, seq=9)
    other = order_head(case, leaf="ab" * 32)
    early = order_head(case, size=len(forge.leaves) - 1)
    beyond = order_head(case, size=len(forge.leaves) + 5)
    foreign = order_head(case, log="other.example/log")
    strangers = order_head(case, by=Signer(STRANGER.secret), leaf="ab" * 32)

    assert judged(forge, honest) == []
    for held, reason in (
        (later, "it has no such event below that size"),
        (other, "holds another event"),
        (early, "it has no such event below that size"),
        (beyond, "and the log ends at"),
        (foreign, "of the log 'other.example/log'"),
        (strangers, "signed by no wallet of the log"),
    ):
        [(check, message)] = judged(forge, held)
        assert (check, reason in message) == ("C26", True), message

    case.add(PushAttempted(attempt=1, target="contact_endpoint", outcome="refused"))
    assert judged(forge, honest) == []
    [(check, message)] = judged(forge, order_head(case, seq=5, leaf=honest_leaf(honest)))
    assert (check, "holds a further event" in message) == ("C26", True)


def honest_leaf(held: Held) -> str:
    assert held.order_head is not None
    return held.order_head[0].partition('"leaf":"')[2][:64]


# The log before this one


def earlier(size: int, root: bytes = ROOT, key: LogKey = EARLIER) -> Held:
    return Held("old", checkpoint=key.sign_checkpoint("ledger.example/zero", size, root))


def compared(held: Held, *vkeys: str) -> Report:
    book = Book(10)
    others = Others(book, Evidence([held], earlier_keys=vkeys))
    others.read(lf.ORIGIN, [LogKey(lf.ORIGIN, lf.LOG_SEED).vkey], CONTINUES)
    return book.report


def test_a_head_of_the_earlier_log_is_compared_with_where_this_one_begins() -> None:
    assert found(compared(earlier(9))) == found(compared(earlier(9), EARLIER.vkey)) == []
    assert compared(earlier(9)).checked["C20"] == 1

    [(check, message)] = found(compared(earlier(9, b"\x01" * 32), EARLIER.vkey))
    assert (check, "FORK" in message) == ("C20", True)
    [(check, message)] = found(compared(earlier(12), EARLIER.vkey))
    assert (check, "had 12 events" in message) == ("C19", True)


def test_what_cannot_be_told_of_the_earlier_log_is_unknown() -> None:
    for held, keys, check in (
        (earlier(9, b"\x01" * 32), (), "C20"),
        (earlier(12), (), "C19"),
        (earlier(4), (EARLIER.vkey,), "C20"),
    ):
        report = compared(held, *keys)
        assert (found(report), [unknown.check for unknown in report.unknown]) == ([], [check])

    forged = earlier(9, b"\x01" * 32, LogKey("ledger.example/zero", b"\x0e" * 32))
    assert [check for check, _ in found(compared(forged, EARLIER.vkey))] == ["C18"]
    stranger = LogKey("other.example/log", b"\x0e" * 32)
    note = stranger.sign_checkpoint("other.example/log", 9, ROOT)
    assert [check for check, _ in found(compared(Held("x", checkpoint=note)))] == ["C18"]


# Forms


@pytest.mark.parametrize("text", ["7 {}", "7 {}\n", "Ledger-Head: 7 {}", "ledger-head:7 {}\r\n"])
def test_a_head_as_a_header_is_read(text: str) -> None:
    root = b64encode(ROOT).decode()

    assert read_held(text.format(root), "x") == [Held("x", root=TreeHead(size=7, root=ROOT.hex()))]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        '{"status":"paid"}',
        '{"events":[]}',
        '{"size":-1,"root":"' + "ab" * 32 + '"}',
        '{"size":9007199254740992,"root":"' + "ab" * 32 + '"}',
        '{"size":1,"root":"x"}',
        '{"error":"NOT_FOUND","details":{}}',
        "{]",
        "c2sp.org/tlog-proof@v1\nindex x\n\nnote",
    ],
)
def test_what_has_no_known_form_is_refused(text: str) -> None:
    with pytest.raises(HeldUnreadable):
        read_held(text, "x")
