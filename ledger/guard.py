"""The guard: the last signed head, kept outside the data folder and its backups.

A log that lost its newest entries, most likely because a backup was put back, would sign a second
history. The guard remembers the head that was signed last, and refuses to let it be signed away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger.checkpoint import Checkpoint, verify_by_any
from ledger.errors import VerificationError

SYNC_INTERVAL_SECONDS: Final = 1.0
_MODE: Final = 0o600
_MAX_BYTES: Final = 1 << 20


class Guard:
    """Keeps exactly the last signed note in one file. Used from one thread; `OSError` passes.

    `clock` gives seconds and never goes back. The folder of `path` must exist.
    """

    def __init__(
        self, path: Path, *, log_vkeys: frozenset[str], origin: str, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.new")
        self.log_vkeys = log_vkeys
        """The keys that may have signed the head on disk: a rotation leaves the old one's word."""
        self._origin = origin
        self._clock = clock
        self._head: Checkpoint | None = None
        self._was_read = False
        self._synced_at: float | None = None
        self._file: int | None = None
        self._unsynced = False

    def read(self) -> Checkpoint | None:
        """Return the head on disk, or None if there is no file.

        Raises `VerificationError` if the file is no note that the log's key signed for the origin.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_BYTES)
        except FileNotFoundError:
            self._head = None
        else:
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                raise VerificationError("the guard file is not UTF-8") from error
            self._head = verify_by_any(text, self.log_vkeys, self._origin)
        self._was_read = True
        return self._head

    def advance(self, note_text: str, size: int, root: bytes) -> None:
        """Record a head that was just signed, before the note leaves.

        Raises `VerificationError`, and leaves the file as it was, if the head lies behind the last
        one, forks from it, or is not what the note says. The signature is not verified again.
        """
        head = Checkpoint(self._origin, size, root)
        if not note_text.startswith(head.text() + "\n"):
            raise VerificationError("the note is of another head")
        last = self._head if self._was_read else self.read()
        if last is not None:
            if size < last.size:
                raise VerificationError(f"size {size} lies behind the signed size {last.size}")
            if size == last.size and root != last.root:
                raise VerificationError(f"another root of size {size} was signed before")
        self._replace(note_text.encode())
        self._head = head

    def close(self) -> None:
        """Make the last head durable and let go of the file. The guard may be used again."""
        if self._file is not None:
            if self._unsynced:
                os.fsync(self._file)
            self._let_go()

    def _replace(self, data: bytes) -> None:
        due = self._synced_at is None or self._clock() - self._synced_at >= SYNC_INTERVAL_SECONDS
        try:
            if self._file is None or (due and not self._in_place()):
                self._create(data)
            else:
                self._overwrite(self._file, data, sync=due)
        except OSError:
            # What lies at the path may be torn now, so the next head gets a file of its own.
            self._let_go()
            raise

    def _overwrite(self, file: int, data: bytes, *, sync: bool) -> None:
        # One write inside one disk sector, and a newer note is never shorter. Crash before it: the
        # old head stands, one batch behind the ledger; the entries are durable and the new note
        # has not left, so the next start signs on from the ledger. Crash of the process after it:
        # the new head stands. Loss of power before the next sync: a head at most a second old.
        self._unsynced = True
        if os.pwrite(file, data, 0) != len(data):
            raise OSError("the guard file was not written whole")
        if sync:
            os.fsync(file)
            self._synced(self._clock())

    def _in_place(self) -> bool:
        """Whether the open file is still the one at the path: somebody may have replaced it."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is not None and there.st_ino == os.fstat(self._file).st_ino

    def _create(self, data: bytes) -> None:
        """Put a file with the note at the path and hold it open; durable on return."""
        self._let_go()
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        self._file = os.open(self._temporary, flags, _MODE)
        os.fchmod(self._file, _MODE)  # a file left over may have another mode
        if os.write(self._file, data) != len(data):
            raise OSError("the guard file was not written whole")
        os.fsync(self._file)
        # Crash before this replace: the old file stands, or none beside an empty ledger.
        self._temporary.replace(self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._synced(self._clock())

    def _synced(self, at: float) -> None:
        self._synced_at, self._unsynced = at, False

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
