"""What a ledger needs before its first write: its folder for itself, its file, its settings."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ledger.errors import Misconfigured
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
