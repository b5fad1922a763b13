"""The audit as its users run it: on a stopped ledger, beside a running one, and with its views."""

import asyncio
import json
import re
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from ledger import audit_source
from ledger.audit import audit
from ledger.checkpoint import LogKey
from projections.runner import Projector
from projections.schema import TABLES
from scripts import audit_replay, rebuild_views
from tests.support.ledger_files import (
    LOG_SEED,
    ORIGIN,
    STORIES,
    LedgerFiles,
    Teller,
    Wallet,
    write_ledger,
)
from tests.support.market_stories import MARKET_STORIES

ELSEWHERE = {"C11", "C22", "C23", "C24", "C25", "C26", "C28"}
"""The checks of what others hold."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> LedgerFiles:
    """Return a stopped ledger with its views."""
    files = write_ledger(tmp_path_factory.mktemp("written"), events=120)
    tell_of_the_market(files)
    catch_up(files)
    return files


def tell_of_the_market(files: LedgerFiles) -> None:
    ledger = files.open()
    ledger.start()
    teller = Teller(ledger)

    async def tell() -> None:
        for story in MARKET_STORIES:
            await story(teller)

    asyncio.run(tell())
    ledger.close()


@pytest.fixture
def files(written: LedgerFiles, tmp_path: Path) -> LedgerFiles:
    shutil.copytree(written.folder, tmp_path, dirs_exist_ok=True)
    return LedgerFiles(tmp_path, written.recovery)


def catch_up(files: LedgerFiles) -> None:
    ledger = files.open()
    projector = Projector(ledger, files.data_dir / "views.db")
    projector.catch_up()
    projector.close()
    ledger.close()


def replay(files: LedgerFiles, *options: str) -> int:
    return audit_replay.main([str(files.data_dir), *options])


# Outcomes


def test_a_sound_ledger_ends_with_0_and_says_so(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(files) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "audit: ok"
    checks = [line.split()[0] for line in lines if line.startswith("C")]
    assert checks == list(audit_replay.TITLES)
    not_ok = {line.split()[0] for line in lines if line.startswith("C") and line[-4:] != "  ok"}
    assert not_ok == ELSEWHERE
    assert all(line.endswith("not checked") for line in lines if line[:3] in ELSEWHERE)


def test_findings_end_with_1_and_are_named(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(files.database) as db:
        db.execute(
            "DELETE FROM claims WHERE position=(SELECT max(position) FROM claims"
            " WHERE chain LIKE 'eip155:%')"
        )

    assert replay(files) == 1

    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "audit: 1 finding"
    assert "is missing" in out
    assert "views not compared: the ledger itself has findings" in out


def test_the_report_as_json_holds_the_findings(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    files.guard.unlink()

    assert replay(files, "--json") == 1

    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"] == [
        {"check": "C18", "position": None, "stream": None, "message": "the guard file is missing"}
    ]


def test_pinned_keys_leave_no_note_and_wrong_ones_are_findings(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = files.open()
    log_key, wallet = LogKey(ORIGIN, LOG_SEED).vkey, ledger.signer.address
    ledger.close()

    assert replay(files, "--log-key", log_key, "--wallet", wallet.upper().replace("X", "x")) == 0
    assert "not pinned" not in capsys.readouterr().out
    assert replay(files, "--wallet", Wallet("stranger").address) == 1
    assert replay(files, "--log-key", LogKey(ORIGIN, b"\x09" * 32).vkey) == 1


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_ledger_is_named_by_its_file_or_its_url_too(
    files: LedgerFiles, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = form.format(files.database)

    assert audit_replay.main([whole]) == 0
    assert "C17" in capsys.readouterr().out
    elsewhere = files.folder / "copy.db"
    shutil.copy(files.database, elsewhere)
    assert audit_replay.main([form.format(elsewhere), "--guard", str(files.guard)]) == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ledger@db.example/ledger", "this build has no PostgreSQL store"),
        ("postgres://db.example/ledger", "this build has no PostgreSQL store"),
        ("mysql://db.example/ledger", "mysql:// names no ledger"),
        ("sqlite:///nowhere/ledger.db", "is no file"),
    ],
)
def test_what_names_no_ledger_ends_with_2(
    url: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit_replay.main([url]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["no folder", "no file", "no database", "another guard"])
def test_what_cannot_be_read_ends_with_2(
    files: LedgerFiles, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match damage:
        case "no folder":
            shutil.rmtree(files.data_dir)
        case "no file":
            files.database.unlink()
        case "no database":
            files.database.write_bytes(b"this is no database" * 100)
        case _:
            files.guard.unlink()
            files.guard.mkdir()

    assert replay(files) == 2
    assert capsys.readouterr().err.startswith("audit: could not run")


def test_a_ledger_on_a_read_only_medium_is_audited(
    files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = audit_source._begin

    def no_lock_files(uri: str) -> sqlite3.Connection:
        if "immutable" not in uri:
            raise sqlite3.OperationalError("unable to open database file")
        return begin(uri)

    monkeypatch.setattr(audit_source, "_begin", no_lock_files)
    (files.data_dir / "ledger.db-wal").unlink(missing_ok=True)

    assert replay(files, "--no-views") == 0


def test_a_torn_reading_of_the_guard_is_read_again(
    files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files.guard.read_bytes()
    readings = [whole[:50] + b"?" * 50, whole, whole]
    monkeypatch.setattr(Path, "read_bytes", lambda _: readings.pop(0))

    assert audit_source.read_guard(files.guard) == whole


def test_the_page_on_the_audit_names_every_check(files: LedgerFiles) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text("utf-8")

    named = dict(re.findall(r"^\| (C\d\d) \| ([^|]+?) \|", page, re.MULTILINE))

    assert named == audit_replay.TITLES


# Beside the running service


def test_an_audit_beside_the_running_writer_finds_nothing(files: LedgerFiles) -> None:
    ledger = files.open()
    ledger.start()
    sizes: list[int] = []
    stop = threading.Event()

    def keep_auditing() -> None:
        while not stop.is_set():
            report = audit(files.database, files.guard)
            assert report.findings == []
            sizes.append(report.size)

    async def tell() -> None:
        teller = Teller(ledger)
        auditing = asyncio.create_task(asyncio.to_thread(keep_auditing))
        while len(sizes) < 4 and not auditing.done():
            await asyncio.gather(
                *(story(teller) for story in STORIES if story.__name__ != "erased")
            )
        stop.set()
        await auditing

    asyncio.run(tell())
    ledger.close()

    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


# The views


def test_every_changed_value_of_the_views_is_found(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files.data_dir / "views.db"
    tables = sorted(TABLES - {"_sqlite_migrations"})
    db = sqlite3.connect(path)
    columns = [
        (table, column, kind)
        for table in tables
        for column, kind in db.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
    ]
    db.close()
    honest = path.read_bytes()

    missed = []
    for table, column, kind in columns:
        with sqlite3.connect(path) as db:
            new = f"{column} + 1" if kind == "INTEGER" else f"{column} || 'x'"
            where = _last_with(db, table, column)
            statement = f"UPDATE {table} SET {column}={new} {where}"  # noqa: S608 - our own names
            changed = db.execute(statement).rowcount
        db.close()
        assert changed == 1, (table, column)
        if replay(files) != 1 or "audit: ok" in capsys.readouterr().out:
            missed.append((table, column))
        for left in ("views.db-wal", "views.db-shm"):
            (files.data_dir / left).unlink(missing_ok=True)
        path.write_bytes(honest)

    assert missed == []
    assert replay(files) == 0


def _last_with(db: sqlite3.Connection, table: str, column: str) -> str:
    """Return the clause that finds the last row which has a value there, by its key."""
    named = db.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table,))
    key = ", ".join(name for (name,) in named)
    there = f"FROM {table} WHERE {column} IS NOT NULL"
    last = f"SELECT {key} {there} ORDER BY {key.replace(',', ' DESC,')} DESC LIMIT 1"
    return f"WHERE ({key})=({last})"


def test_views_that_lag_are_compared_where_they_stand(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(files.folder, events=150)

    assert replay(files) == 0
    assert "views not compared" not in capsys.readouterr().out


def test_views_ahead_of_the_ledger_are_a_finding(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(files.data_dir / "views.db") as db:
        db.execute("UPDATE tracking SET position=position+1")

    assert replay(files) == 1
    assert "the views stand at" in capsys.readouterr().out


def test_a_ledger_without_views_is_audited_all_the_same(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    (files.data_dir / "views.db").unlink()

    assert replay(files) == 0
    assert "views not compared: there are none" in capsys.readouterr().out


def test_broken_views_are_a_finding(files: LedgerFiles, capsys: pytest.CaptureFixture[str]) -> None:
    (files.data_dir / "views.db").write_bytes(b"this is no database" * 100)

    assert replay(files) == 1
    assert "cannot be read as a database" in capsys.readouterr().out


def test_rebuilt_views_are_those_that_were_there(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files.data_dir / "views.db"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE orders SET status='refunded'")
    db.close()
    assert replay(files) == 1

    assert rebuild_views.main([str(files.data_dir)]) == 0

    assert "events/s" in capsys.readouterr().out
    assert replay(files) == 0
    assert not path.with_name("views.db.new").exists()


def test_views_of_a_running_service_are_not_rebuilt(
    files: LedgerFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = files.open()
    before = (files.data_dir / "views.db").read_bytes()

    assert rebuild_views.main([str(files.data_dir)]) == 2

    ledger.close()
    assert "the service runs" in capsys.readouterr().err
    assert (files.data_dir / "views.db").read_bytes() == before


def test_views_of_no_ledger_are_not_rebuilt(tmp_path: Path) -> None:
    assert rebuild_views.main([str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []
