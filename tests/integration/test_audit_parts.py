"""The audit by two processes, and with witnesses, on ledgers that fit into a moment."""

import http.server
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from ledger.audit import audit, audit_snapshot
from ledger.audit_fold import beside
from ledger.audit_report import Report
from ledger.audit_rpc import Node
from ledger.audit_source import read_guard
from ledger.audit_witness import Seen, Windows, Witnesses, c22_gaps, quorum_heads
from ledger.checkpoint import Note, parse_note
from ledger.cosignature import Cosigner
from ledger.errors import ChainUnavailable
from ledger.values import UnixMs
from scripts import audit_replay
from tests.support.ledger_files import LedgerFiles, write_ledger

WITNESS = Cosigner("witness.example/w1", b"\x0c" * 32)
SECOND = Cosigner("witness.example/w2", b"\x0d" * 32)
ROOT = b"\x01" * 32


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> LedgerFiles:
    return write_ledger(tmp_path_factory.mktemp("written"), events=100)


@pytest.fixture
def files(written: LedgerFiles, tmp_path: Path) -> LedgerFiles:
    shutil.copytree(written.folder, tmp_path, dirs_exist_ok=True)
    return LedgerFiles(tmp_path, written.recovery)


# Two processes


def audited_by_two(files: LedgerFiles) -> Report:
    note = read_guard(files.guard)
    with beside(files.database) as (db, fold):
        assert fold is not None
        return audit_snapshot(db, note, fold=fold)


def damage(files: LedgerFiles, statement: str, *values: object) -> None:
    db = sqlite3.connect(files.database)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    with db:
        assert db.execute(statement, values).rowcount == 1
    db.close()


def found(report: Report) -> set[tuple[str, int | None, str]]:
    return {(item.check, item.position, item.message) for item in report.findings}


def test_two_processes_say_what_one_says(files: LedgerFiles) -> None:
    assert audited_by_two(files) == audit(files.database, files.guard)


@pytest.mark.parametrize("position", [40, 41])
def test_two_processes_find_a_forged_signature_wherever_it_stands(
    files: LedgerFiles, position: int
) -> None:
    db = sqlite3.connect(files.database)
    query = "SELECT state FROM stored_events WHERE rowid=?"
    (entry,) = db.execute(query, (position,)).fetchone()
    db.close()
    at = entry.rindex(b'"value":"0x') + 20
    digit = b"1" if entry[at : at + 1] != b"1" else b"2"
    forged = entry[:at] + digit + entry[at + 1 :]
    damage(files, "UPDATE stored_events SET state=? WHERE rowid=?", forged, position)

    by_one, by_two = audit(files.database, files.guard), audited_by_two(files)

    assert ("C04", position) in {(item.check, item.position) for item in by_two.findings}
    assert found(by_two) == found(by_one)
    assert by_two.checked == by_one.checked


def test_two_processes_go_around_an_entry_that_is_none(files: LedgerFiles) -> None:
    damage(files, "UPDATE stored_events SET state=? WHERE rowid=40", b"{}")

    by_two = audited_by_two(files)

    assert ("C01", 40) in {(item.check, item.position) for item in by_two.findings}
    assert found(by_two) == found(audit(files.database, files.guard))


def test_a_moment_that_two_cannot_share_is_audited_by_one(
    files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that is started anew does not share what is changed in this one.
    monkeypatch.setattr("ledger.audit_fold._context", lambda: get_context("spawn"))
    monkeypatch.setattr("ledger.audit_fold._COUNT", "SELECT -count(*) FROM stored_events")

    with beside(files.database) as (db, fold):
        assert fold is None
        assert audit_snapshot(db, read_guard(files.guard), fold=fold).ok


# Witnesses


def witnessed(files: LedgerFiles, folder: Path, at: int, *by: Cosigner) -> Path:
    """Write the newest checkpoint with the cosignatures of these witnesses."""
    note = parse_note(files.guard.read_text("utf-8"))
    lines = tuple(each.cosign(note.text, at) for each in by)
    path = folder / "witnessed"
    path.write_text(Note(note.text, (*note.signatures, *lines)).encode(), "utf-8")
    return path


def last_second(files: LedgerFiles) -> int:
    ledger = files.open()
    last = ledger.store.last_at() // 1000
    ledger.close()
    return last


def replay(files: LedgerFiles, *options: object) -> int:
    return audit_replay.main([str(files.data_dir), *map(str, options)])


def test_a_witnessed_head_is_checked_and_a_missing_witness_is_found(
    files: LedgerFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = witnessed(files, tmp_path, last_second(files) + 1, WITNESS)
    one, two = ("--witness", WITNESS.key.vkey()), ("--witness", SECOND.key.vkey())

    assert replay(files, "--held", held, *one) == 0
    assert replay(files, "--held", held, *one, *two, "--quorum", 1) == 0
    assert replay(files, "--held", held, *one, *two) == 1
    assert "no head of this log was seen by 2" in capsys.readouterr().out
    assert replay(files, *one) == 1


def test_events_after_a_witness_saw_them_are_dated_ahead(
    files: LedgerFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = witnessed(files, tmp_path, last_second(files) - 3600, WITNESS)

    assert replay(files, "--held", held, "--witness", WITNESS.key.vkey(), "--json") == 1

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["check"] for finding in findings} == {"C11"}


@pytest.mark.parametrize(
    "options", [("--witness", "no key"), ("--witness", WITNESS.key.vkey(), "--quorum", "2")]
)
def test_witnesses_that_cannot_be_are_an_error(
    files: LedgerFiles, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(files, *options) == 2
    assert "could not run" in capsys.readouterr().err


def test_windows_hold_an_event_between_the_heads_around_it() -> None:
    minute, far = 60_000, 10 * 60_000
    seen = [Seen(10, ROOT, "w", UnixMs(far)), Seen(20, ROOT, "w", UnixMs(2 * far))]
    windows = Windows.of(seen)

    assert not list(windows.c11_in_its_window(15, UnixMs(far - minute)))
    assert list(windows.c11_in_its_window(15, UnixMs(far - minute - 1)))
    assert not list(windows.c11_in_its_window(15, UnixMs(2 * far + minute)))
    assert list(windows.c11_in_its_window(15, UnixMs(2 * far + minute + 1)))
    assert not list(windows.c11_in_its_window(21, UnixMs(9 * far)))


def test_a_gap_is_what_an_event_waited_for_a_witness() -> None:
    heads = [(10, UnixMs(10_000)), (20, UnixMs(95_000))]

    def gaps(max_gap_s: int, size: int) -> list[str]:
        return list(c22_gaps(heads, size, max_gap_s, lambda position: UnixMs(position * 1000)))

    assert gaps(84, 20) == []
    assert len(gaps(83, 20)) == 1
    assert len(gaps(83, 120)) == 2
    assert gaps(98, 120) == ["no witness saw the log after size 20, though it goes on for 99 s"]


def test_a_quorum_is_reached_when_its_last_witness_has_seen_the_head() -> None:
    seen = [
        Seen(10, ROOT, "a", UnixMs(5)),
        Seen(10, ROOT, "a", UnixMs(3)),
        Seen(10, ROOT, "b", UnixMs(7)),
        Seen(20, ROOT, "a", UnixMs(9)),
    ]

    assert quorum_heads(seen, 2, lambda _size, _root: True) == [(10, UnixMs(7))]
    assert quorum_heads(seen, 1, lambda size, _root: size == 20) == [(20, UnixMs(9))]
    with pytest.raises(ValueError, match="quorum"):
        Witnesses((WITNESS.key, WITNESS.key), 2)


# The chain's nodes


@contextmanager
def answering(status: int, body: bytes, location: str = "") -> Iterator[str]:
    """Give the URL of a node that answers everything so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/secret"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "location"),
    [
        (500, b"", ""),
        (302, b"", "http://127.0.0.1:1/elsewhere"),
        (200, b"no json", ""),
        (200, b"{}", ""),
        (200, b"[]", ""),
        (200, b'[{"id":1,"error":{"code":-1}}]', ""),
        (200, b'[{"id":2,"result":"0x1"}]', ""),
    ],
)
def test_a_node_that_does_not_answer_the_question_is_silent(
    status: int, body: bytes, location: str
) -> None:
    with (
        answering(status, body, location) as url,
        pytest.raises(ChainUnavailable) as error,
    ):
        Node(url, timeout_s=5)([("eth_chainId", [])])

    assert "secret" not in str(error.value)
