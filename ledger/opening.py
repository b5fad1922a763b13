"""What a ledger needs before its first write: its folder for itself, its file, its settings."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.errors import Misconfigured, VerificationError
from ledger.log import LogState, require_settings
from ledger.log_events import LogOpened
from ledger.store import SqliteStore
from ledger.store_sqlite import STORE_ERRORS
from ledger.values import LOG_STREAM


def lock_folder(path: Path) -> int:
    """Hold the data folder for this process; two writers of one file are one too many."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        msg = f"another process uses {path.parent}"
        raise Misconfigured(msg) from error
    return handle


def open_store(path: Path) -> SqliteStore:
    """Open the store, or say which file is at fault: a damaged one is no bug of ours."""
    try:
        return SqliteStore(path)
    except STORE_ERRORS as error:
        msg = f"{path} cannot be opened as a ledger: {error}"
        raise Misconfigured(msg) from error


def check_settings(store: SqliteStore, wanted: LogOpened) -> frozenset[str]:
    """Name the setting that differs, before a key that differs fails to verify.

    Returns the log keys that may have signed the last head: a new one is followed by a restart.
    """
    state = store.load(LOG_STREAM).state
    if not isinstance(state, LogState):
        return frozenset({wanted.log_key})
    require_settings(state, wanted)
    return state.log_keys


def check_guard(
    path: Path, signed: Checkpoint | None, size: int, root_at: Callable[[int], bytes]
) -> None:
    """Refuse to sign on a ledger that lies behind, or beside, what was signed before.

    `size` is the ledger's, `signed` what the guard holds, `root_at` the ledger's root at a size.
    """
    if signed is None:
        if size:
            msg = (
                f"{path} is missing although the ledger holds events; without it an older "
                "backup could be signed again"
            )
            raise Misconfigured(msg)
        return
    if signed.size > size:
        msg = f"a head of size {signed.size} was signed, but the ledger ends at {size}"
        raise VerificationError(msg)
    if signed.size and root_at(signed.size) != signed.root:
        msg = f"the ledger's root at size {signed.size} is not the one that was signed"
        raise VerificationError(msg)
