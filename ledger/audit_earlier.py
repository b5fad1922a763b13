"""Heads of the log that this one carries on: where it ended is what the genesis says of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ledger.audit_report import Book
from ledger.checkpoint import Checkpoint, parse_note, verify_by_any
from ledger.errors import VerificationError
from ledger.log_events import Continues
from ledger.witness import read_checkpoint


def is_of_the_earlier(note: str, continues: Continues) -> bool:
    """Whether a checkpoint is of the log that this one continues."""
    head = _read(note)
    return head is not None and head.origin == continues.origin


def compare_earlier(
    book: Book, source: str, note: str, continues: Continues, vkeys: Sequence[str]
) -> None:
    """C19, C20: the earlier log signed no other end than the one that this log continues.

    Its key stands in its own genesis, which is not here: without it a head that does not fit may be
    anybody's, so it is held against nobody.
    """
    head = _read(note)
    if head is None:
        return
    if vkeys:
        try:
            verify_by_any(note, vkeys, continues.origin)
            book.note("C18", ())
        except VerificationError as error:
            book.note("C18", [f"{source}: {error.message}"])
            return
    problem = _problem(head, continues)
    if problem is None:
        book.note("C20", ())
        return
    check, text, is_finding = problem
    if is_finding and vkeys:
        book.note(check, [f"{source}: {text}"])
        return
    missing = "; whether it signed that, its key tells" if is_finding else ""
    book.unknown(check, f"{source}: {text}{missing}", None, None)


def _problem(head: Checkpoint, continues: Continues) -> tuple[str, str, bool] | None:
    """Return what does not fit, of which check, and whether it can be a finding."""
    end = continues.head
    if head.size > end.size:
        text = f"the earlier log had {head.size} events, and this one continues it from {end.size}"
        return "C19", text, True
    if head.size < end.size:
        text = f"no proof leads from {head.size} events of the earlier log to its end at {end.size}"
        return "C20", text, False
    if head.root.hex() != end.root:
        text = f"FORK: the earlier log ended at {end.size} with another root than this one says"
        return "C20", text, True
    return None


def _read(note: str) -> Checkpoint | None:
    with suppress(VerificationError):
        return read_checkpoint(parse_note(note).text)
    return None
