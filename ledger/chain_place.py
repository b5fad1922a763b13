"""Where the reading of the chain goes on after a restart: one small file, disposable.

It is no view, because no event makes it, and no truth: without it the chain is read again from the
block of `ChainBound` on, which records nothing twice and only takes longer.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ledger.scan import Place


class PlaceFile(BaseModel):
    """The file's content. `log` and `position` tell a place that another ledger left behind."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    log: str
    genesis_hash: str
    payment_address: str
    position: int
    number: int
    hash: str | None


def read_place(path: Path, expected: PlaceFile) -> Place:
    """Return the stored place, or the expected one if the file is missing, broken or foreign.

    A place left by a ledger that knew more than ours has skipped what ours does not hold.
    """
    try:
        found = PlaceFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        found = expected
    same = {"log", "genesis_hash", "payment_address"}
    if found.model_dump(include=same) != expected.model_dump(include=same):
        found = expected
    if found.position > expected.position or found.number < expected.number:
        found = expected
    return Place(found.number, found.hash)


def write_place(path: Path, place: PlaceFile) -> None:
    """Replace the file. Not synced: an older place is as good, and read on from."""
    draft = path.with_suffix(".new")
    with contextlib.suppress(OSError):  # a full disk costs a longer restart
        draft.write_text(place.model_dump_json())
        # A crash before this leaves the old place, one after it the new one; both are true.
        os.replace(draft, path)  # noqa: PTH105 - the standard name for an atomic replacement
