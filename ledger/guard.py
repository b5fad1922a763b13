"""The guard: the last signed head, kept outside the data folder and its backups.

A log that lost its newest entries, most likely because a backup was put back, would sign a second
history. The guard remembers the head that was signed last, and refuses to let it be signed away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.errors import VerificationError

SYNC_INTERVAL_SECONDS: Final = 1.0
_MODE: Final = 0o600
_MAX_BYTES: Final = 1 << 20


class Guard:
    """Keeps exactly the last signed note in one file. Used from one thread; `OSError` passes.

    `clock` gives seconds and never goes back. The folder of `path` must exist.
    """

    def __init__(
        self, path: Path, *, log_vkey: str, origin: str, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.new")
        self._log_vkey = log_vkey
        self._origin = origin
        self._clock = clock
        self._head: Checkpoint | None = None
        self._was_read = False
        self._synced_at: float | None = None
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
            self._head = verify_checkpoint(text, self._log_vkey, self._origin)
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
        """Make the last head durable. The guard may be used again afterwards."""
        if not self._unsynced:
            return
        # Crash before this sync: as after a replace without one, see there.
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._sync_folder()
        # Crash after: the head stands as recorded, whatever happens to the machine.

    def _replace(self, data: bytes) -> None:
        due = self._synced_at is None or self._clock() - self._synced_at >= SYNC_INTERVAL_SECONDS
        self._write_temporary(data, sync=due)
        # Crash before this replace: the old head stands, one batch behind the ledger. The entries
        # are durable and the new note has not left, so the next start signs on from the ledger.
        self._temporary.replace(self._path)
        self._unsynced = True
        # Crash of the process after: the new head stands, and the ledger has it too. Loss of power
        # before the next sync: a head at most a second old, which the ledger has passed; or, where
        # the file system moves names before data, an empty file, which `read` refuses.
        if due:
            self._sync_folder()

    def _write_temporary(self, data: bytes, *, sync: bool) -> None:
        # Crash while writing: the old head stands; the next write truncates what is left here.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(self._temporary, flags, _MODE)
        try:
            os.fchmod(descriptor, _MODE)  # a file left over may have another mode
            if os.write(descriptor, data) != len(data):
                raise OSError("the guard file was not written whole")
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        # Crash before this sync: the file's data are durable, its name may still be the old one's.
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._synced_at = self._clock()
        self._unsynced = False
