import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint, LogKey
from ledger.errors import VerificationError
from ledger.guard import Guard

ORIGIN = "provider.example/ivxp/ledger"
KEY = LogKey(ORIGIN, b"\x01" * 32)


def root_of(size: int) -> bytes:
    return sha256(b"root %d" % size).digest()


def note_of(size: int, root: bytes | None = None, *, key: LogKey = KEY) -> str:
    return key.sign_checkpoint(ORIGIN, size, root or root_of(size))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "guard"
    folder.mkdir()
    return folder / "head"


@pytest.fixture
def guard(path: Path, clock: Clock) -> Guard:
    return guard_at(path, clock)


def guard_at(path: Path, clock: Clock) -> Guard:
    return Guard(path, log_vkeys=frozenset({KEY.vkey}), origin=ORIGIN, clock=clock)


def advance(guard: Guard, size: int) -> None:
    guard.advance(note_of(size), size, root_of(size))


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record instead of syncing what would be synced, in order: `file` or `folder`."""
    done: list[str] = []

    def record(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if is_folder else "file")

    monkeypatch.setattr(os, "fsync", record)
    return done


@contextmanager
def failing(patch: pytest.MonkeyPatch, target: object, name: str) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    with patch.context() as inner:
        inner.setattr(target, name, fail)
        with pytest.raises(OSError, match="the disk is gone"):
            yield


def test_without_a_file_there_is_no_head(guard: Guard, path: Path) -> None:
    assert guard.read() is None
    assert not path.exists()


def test_the_file_holds_exactly_the_last_note(guard: Guard, path: Path, clock: Clock) -> None:
    for size in (1, 5, 900):
        advance(guard, size)
        assert path.read_text() == note_of(size)

    assert guard_at(path, clock).read() == Checkpoint(ORIGIN, 900, root_of(900))
    assert [entry.name for entry in path.parent.iterdir()] == ["head"]


def test_a_smaller_size_is_refused(guard: Guard, path: Path) -> None:
    advance(guard, 5)
    with pytest.raises(VerificationError, match="lies behind"):
        advance(guard, 4)
    assert path.read_text() == note_of(5)


def test_the_same_size_with_another_root_is_refused(guard: Guard, path: Path) -> None:
    advance(guard, 5)
    with pytest.raises(VerificationError, match="another root"):
        guard.advance(note_of(5, root_of(6)), 5, root_of(6))
    assert path.read_text() == note_of(5)


def test_the_same_head_may_be_recorded_again(guard: Guard, path: Path) -> None:
    advance(guard, 5)
    advance(guard, 5)
    assert path.read_text() == note_of(5)


def test_a_guard_that_was_not_read_still_refuses_to_go_back(
    guard: Guard, path: Path, clock: Clock
) -> None:
    advance(guard, 5)
    with pytest.raises(VerificationError, match="lies behind"):
        advance(guard_at(path, clock), 4)


def test_a_note_of_another_head_is_refused(guard: Guard, path: Path) -> None:
    for note, size, root in [
        (note_of(5), 6, root_of(5)),
        (note_of(5), 5, root_of(6)),
        (note_of(55), 5, root_of(5)),
        (LogKey(ORIGIN, b"\x01" * 32).sign_checkpoint("other", 5, root_of(5)), 5, root_of(5)),
    ]:
        with pytest.raises(VerificationError, match="another head"):
            guard.advance(note, size, root)
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        note_of(5).encode()[:-1],
        note_of(5).replace("5", "6", 1).encode(),
        note_of(5, key=LogKey(ORIGIN, b"\x02" * 32)).encode(),
        KEY.sign_checkpoint("other.example", 5, root_of(5)).encode(),
        b"\xff\xfe",
    ],
    ids=["empty", "cut", "changed", "another key", "another log", "no text"],
)
def test_a_file_that_does_not_verify_stops_reading_and_signing(
    guard: Guard, path: Path, content: bytes
) -> None:
    path.write_bytes(content)

    with pytest.raises(VerificationError):
        guard.read()
    with pytest.raises(VerificationError):
        advance(guard, 6)

    assert path.read_bytes() == content


def test_only_the_owner_may_read_the_file(guard: Guard, path: Path) -> None:
    leftover = path.with_name(".head.new")
    leftover.write_text("left by a crash, and longer than a note " * 40)
    leftover.chmod(0o644)

    advance(guard, 5)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == note_of(5)


def test_syncs_come_at_most_once_a_second(guard: Guard, clock: Clock, synced: list[str]) -> None:
    advance(guard, 1)
    assert synced == ["file", "folder"]

    for size in range(2, 12):
        clock.now += 0.099
        advance(guard, size)
    assert synced == ["file", "folder"]

    clock.now += 0.011
    advance(guard, 12)
    assert synced == ["file", "folder", "file"]


def test_closing_syncs_what_was_not_synced_and_only_that(
    guard: Guard, path: Path, synced: list[str]
) -> None:
    guard.close()
    assert synced == []

    advance(guard, 1)
    guard.close()
    assert synced == ["file", "folder"]

    advance(guard, 2)
    advance(guard, 3)
    guard.close()
    guard.close()
    assert synced == ["file", "folder"] * 2 + ["file"]
    assert path.read_text() == note_of(3)


@pytest.mark.parametrize(
    "call",
    [(os, "open"), (os, "write"), (os, "fsync"), (Path, "replace")],
    ids=["open", "write", "fsync", "replace"],
)
def test_a_first_write_that_fails_leaves_the_old_head_and_can_be_repeated(
    guard: Guard,
    path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    call: tuple[object, str],
) -> None:
    advance(guard, 5)
    guard.close()

    with failing(monkeypatch, *call):
        advance(guard, 6)

    assert path.read_text() == note_of(5)
    assert guard_at(path, clock).read() == Checkpoint(ORIGIN, 5, root_of(5))
    advance(guard, 6)
    assert path.read_text() == note_of(6)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_write_in_place_that_fails_can_be_repeated(
    guard: Guard, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    advance(guard, 5)
    clock.now += 2

    with failing(monkeypatch, os, call):
        advance(guard, 6)

    assert path.read_text() in (note_of(5), note_of(6))
    advance(guard, 6)
    assert path.read_text() == note_of(6)


@pytest.mark.parametrize("call", ["write", "pwrite"])
def test_after_a_write_cut_short_the_next_head_gets_a_file_of_its_own(
    guard: Guard, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    advance(guard, 5)
    if call == "write":
        guard.close()
    first = path.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda _file, data, *_at: len(data) - 1)
        with pytest.raises(OSError, match="not written whole"):
            advance(guard, 6)
    assert path.read_text() == note_of(5)

    advance(guard, 6)

    assert path.stat().st_ino != first
    assert path.read_text() == note_of(6)


def test_a_file_that_somebody_took_away_is_there_again_within_a_second(
    guard: Guard, path: Path, clock: Clock
) -> None:
    advance(guard, 5)
    path.unlink()

    clock.now += 1
    advance(guard, 6)

    assert path.read_text() == note_of(6)


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(
    guard: Guard, path: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path.with_name(".head.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        advance(guard, 5)
    assert victim.read_text() == "untouched"
