"""Whatever is changed in a ledger's files is found: every row, every column, nothing sampled away.

The copies are in memory and without triggers; each change is taken back before the next one.
"""

import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.audit import audit_snapshot
from ledger.audit_source import AuditImpossible, read_guard, snapshot
from ledger.checkpoint import LogKey
from ledger.entry import read_entry
from ledger.errors import VerificationError
from ledger.merkle import leaf_hash
from ledger.order_events import ContentErased
from ledger.tiles import Tree
from tests.support.ledger_files import (
    LOG_SEED,
    ORIGIN,
    LedgerFiles,
    in_memory,
    remembering,
    undone,
    write_ledger,
)

TABLES = {
    "stored_events": ("rowid", "originator_id", "originator_version", "topic", "state"),
    "tiles": ("level", "tile_index", "hashes"),
    "frontier": ("id", "size", "nodes"),
    "claims": ("chain", "tx_hash", "ordinal", "stream", "position"),
    "content": ("content_id", "stream", "field", "salt", "value"),
}
"""Every table of ledger.db with every column, the rowid where it means something."""
NO_EVIDENCE = {"answers"}
"""Answers to keyed requests repeat what was said before; nothing is proven from them."""
ELSEWHERE = {"C11", "C22", "C23", "C24", "C25", "C26"}
"""The checks of what others hold of the log."""

BYTES_PER_ENTRY = 4
BYTES_PER_DAMAGE = 3
DAMAGES_PER_PAGE = 4
FREE_STEPS = 1_000

Change = tuple[str, Callable[[], object]]
"""What is changed, in words, and the act."""


class Copy:
    """A ledger that can be damaged and audited again and again."""

    def __init__(self, files: LedgerFiles) -> None:
        self.files = files
        self.db = in_memory(files.database)
        self.guard = read_guard(files.guard) or b""
        self.first_head = self._note_of_the_first_event()
        self.steps = remembering()

    def checks(self, *, guard: bytes | None = None, stop_after: int = 1000) -> list[str]:
        """Return the checks that find something."""
        note = self.guard if guard is None else guard
        report = audit_snapshot(self.db, note, stop_after=stop_after, steps=self.steps)
        return [finding.check for finding in report.findings]

    def _note_of_the_first_event(self) -> bytes:
        """Return a signed head that counts one event, so that a check other than it must speak."""
        (entry,) = self.db.execute("SELECT state FROM stored_events WHERE rowid=1").fetchone()
        return LogKey(ORIGIN, LOG_SEED).sign_checkpoint(ORIGIN, 1, leaf_hash(entry)).encode()

    def rows(self, table: str) -> list[tuple[object, ...]]:
        columns = ", ".join(TABLES[table])
        return self.db.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608 - fixed names


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Copy]:
    """One ledger of about 200 events, and one with tiles of two levels."""
    sizes = (200, 300)
    return {n: Copy(write_ledger(tmp_path_factory.mktemp(f"{n}"), events=n)) for n in sizes}


@pytest.fixture
def copy(copies: dict[int, Copy]) -> Copy:
    return copies[300]


def test_an_honest_ledger_has_every_table_filled_and_no_finding(copies: dict[int, Copy]) -> None:
    for copy in copies.values():
        report = audit_snapshot(copy.db, copy.guard)
        assert report.findings == []
        assert {check for check, made in report.checked.items() if not made} == ELSEWHERE
    with_tiles = {t: len(copies[300].rows(t)) for t in TABLES}
    assert all(with_tiles.values()), with_tiles
    assert [row[:2] for row in copies[300].rows("tiles")] == [(0, 0), (1, 0)]


def test_no_table_or_column_is_left_out_of_these_tests(copy: Copy) -> None:
    found = {}
    for (name,) in copy.db.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
        columns = copy.db.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
        found[name] = {column for (column,) in columns}

    assert found.keys() - TABLES.keys() == NO_EVIDENCE
    assert {t: found[t] for t in TABLES} == {t: set(c) - {"rowid"} for t, c in TABLES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_changed_value_is_found(copy: Copy, table: str) -> None:
    rng = random.Random(table)  # noqa: S311 - the same bytes each time
    everything_is_found(
        copy, (c for row in copy.rows(table) for c in changes(copy, table, row, rng))
    )


@pytest.mark.slow
@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_deleted_row_is_found(copy: Copy, table: str) -> None:
    where = " AND ".join(f"{column} IS ?" for column in TABLES[table])
    statement = f"DELETE FROM {table} WHERE {where}"  # noqa: S608 - fixed names

    def deletion(row: tuple[object, ...]) -> Change:
        return f"{table} {row[:3]!r:.80} deleted", lambda: copy.db.execute(statement, row)

    everything_is_found(copy, map(deletion, copy.rows(table)))


@pytest.mark.slow
@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_added_row_is_found(copy: Copy, table: str) -> None:
    everything_is_found(copy, (addition(copy, table, row) for row in copy.rows(table)))


def changes(
    copy: Copy, table: str, row: tuple[object, ...], rng: random.Random
) -> Iterator[Change]:
    """Yield a change for each column of a row; several for an entry."""
    where = " AND ".join(f"{column} IS ?" for column in TABLES[table])
    for column, value in zip(TABLES[table], row, strict=True):
        statement = f"UPDATE {table} SET {column}=? WHERE {where}"  # noqa: S608 - fixed names
        times = BYTES_PER_ENTRY if column == "state" else 1
        for _ in range(times):
            new = changed(value, rng)

            def act(statement: str = statement, new: object = new) -> None:
                first_that_fits(copy.db, statement, new, row)

            yield f"{table}.{column} of {row[:3]!r:.80}", act


def changed(value: object, rng: random.Random) -> object:
    """Return the value with one byte changed, or one higher, or with one byte if it had none."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        at = rng.randrange(len(value)) if value else 0
        flipped = bytes([value[at] ^ rng.randrange(1, 256)]) if value else b"\x00"
        return value[:at] + flipped + value[at + 1 :]
    assert isinstance(value, str)
    at = rng.randrange(len(value))
    return value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]


def first_that_fits(
    db: sqlite3.Connection, statement: str, value: object, rest: tuple[object, ...]
) -> None:
    """Execute with the value, or with the next number that no other row has."""
    for step in range(FREE_STEPS):
        try:
            db.execute(statement, (value + step if isinstance(value, int) else value, *rest))
        except sqlite3.IntegrityError:
            continue
        return
    raise AssertionError("no value fits")


def addition(copy: Copy, table: str, row: tuple[object, ...]) -> Change:
    """Return the act of adding the row once more, under a key that is free."""
    free = {"stored_events": 0, "tiles": 1, "frontier": 0, "claims": 2, "content": 0}[table]
    values = list(row)
    if table == "stored_events":
        values[0] = len(copy.rows(table)) + 1
        free = 2
    key = values.pop(free)
    new = f"{key[:-1]}{'0' if key[-1] != '0' else '1'}" if isinstance(key, str) else key
    columns = [TABLES[table][free], *(c for i, c in enumerate(TABLES[table]) if i != free)]
    marks = ",".join("?" * len(columns))
    names = ", ".join(columns)
    statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - fixed names
    return (
        f"{table} {row[:3]!r:.80} added again",
        lambda: first_that_fits(copy.db, statement, new, tuple(values)),
    )


def everything_is_found(copy: Copy, acts: Iterator[Change]) -> None:
    missed: list[str] = []
    by_check: Counter[str] = Counter()
    started = time.monotonic()
    for what, act in list(acts):
        with undone(copy.db):
            act()
            found = copy.checks(guard=copy.first_head, stop_after=1)
        by_check.update(found)
        if not found:
            missed.append(what)
    seconds = time.monotonic() - started
    say(f"{by_check.total()} changes found in {seconds:.1f} s: {dict(sorted(by_check.items()))}")
    assert missed == []


def say(line: str) -> None:
    """Say how much was tried; shown by `pytest -s`."""
    sys.stdout.write(f"\n{line}")


# The guard


def test_every_changed_byte_of_the_guard_is_found(copy: Copy) -> None:
    rng = random.Random(1)  # noqa: S311 - the same bytes each time
    note = copy.guard
    changed_notes = [
        note[:at] + bytes([note[at] ^ rng.randrange(1, 256)]) + note[at + 1 :]
        for at in range(len(note))
    ]
    cut_notes = [note[:length] for length in range(len(note))]

    notes = [*changed_notes, *cut_notes, note + b"\n"]
    missed = [n for n in notes if not copy.checks(guard=n, stop_after=1)]

    say(f"{len(notes)} guards tried")
    assert missed == []


def test_a_deleted_guard_is_found(copy: Copy) -> None:
    report = audit_snapshot(copy.db, None, steps=copy.steps)

    assert [finding.check for finding in report.findings] == ["C18"]


# Older states


@pytest.mark.slow
def test_the_guard_finds_every_cut_tail_and_nothing_else_could(copy: Copy) -> None:
    size = len(copy.rows("stored_events"))

    found: Counter[tuple[str, ...]] = Counter()
    for kept in range(1, size):
        with undone(copy.db):
            rewind(copy, kept)
            found[tuple(copy.checks())] += 1

    say(f"{found.total()} tails cut")
    assert dict(found) == {("C19",): size - 1}


def rewind(copy: Copy, size: int) -> None:
    """Make the copy what it was when it held `size` events: an older backup, put back."""
    db = copy.db
    db.execute("DELETE FROM stored_events WHERE rowid > ?", (size,))
    db.execute("DELETE FROM claims WHERE position > ?", (size,))
    entries = [entry for (entry,) in db.execute("SELECT state FROM stored_events ORDER BY rowid")]
    growth = Tree().append([leaf_hash(entry) for entry in entries])
    db.execute("DELETE FROM tiles")
    rows = [(tile.level, tile.index, tile.hashes) for tile in growth.tiles]
    db.executemany("INSERT INTO tiles VALUES (?,?,?)", rows)
    db.execute("UPDATE frontier SET size=?, nodes=?", (growth.size, growth.frontier))
    known = b"".join(entries).decode()
    events = [read_entry(entry).event for entry in entries]
    erased = {i for event in events if isinstance(event, ContentErased) for i in event.content_ids}
    for (content_id,) in db.execute("SELECT content_id FROM content").fetchall():
        if content_id not in known:
            db.execute("DELETE FROM content WHERE content_id=?", (content_id,))
    for row in copy.files.erased:
        if row.content_id in known and row.content_id not in erased:
            values = (row.content_id, row.stream, row.field, row.salt, row.value)
            db.execute("INSERT INTO content VALUES (?,?,?,?,?)", values)


def test_a_backup_put_back_refuses_to_start(tmp_path: Path) -> None:
    files = write_ledger(tmp_path, events=60)
    backup = files.database.read_bytes()
    write_ledger(tmp_path, events=120)
    assert not (files.data_dir / "ledger.db-wal").exists()
    files.database.write_bytes(backup)

    with pytest.raises(VerificationError, match=r"a head of size \d+ was signed"):
        files.open()


# Damage below the tables


@pytest.mark.slow
def test_damage_anywhere_in_the_file_is_a_finding_or_no_audit_but_never_an_accident(
    copy: Copy, tmp_path: Path
) -> None:
    rng = random.Random(2)  # noqa: S311 - the same bytes each time
    honest = copy.files.database.read_bytes()
    page_bytes = int.from_bytes(honest[16:18])
    damaged = tmp_path / "ledger.db"

    outcomes: Counter[str] = Counter()
    for start in range(0, len(honest), page_bytes):
        for _ in range(DAMAGES_PER_PAGE):
            data = bytearray(honest)
            for at in rng.sample(range(start, start + page_bytes), BYTES_PER_DAMAGE):
                data[at] ^= rng.randrange(1, 256)
            damaged.write_bytes(data)
            outcomes[outcome_of(damaged, copy)] += 1
        damaged.write_bytes(honest[:start])
        assert outcome_of(damaged, copy) != "nothing"

    say(f"{outcomes.total()} damaged files: {dict(outcomes)}")
    # Unused space inside a page says nothing and may change unseen; entries lie close.
    assert outcomes["finding"] > outcomes["nothing"]


def outcome_of(database: Path, copy: Copy) -> str:
    try:
        with snapshot(database) as db:
            report = audit_snapshot(db, copy.guard, stop_after=1, steps=copy.steps)
    except AuditImpossible:
        return "impossible"
    return "finding" if report.findings else "nothing"
