"""Which signed note stands for a size of the log: the cosigned one, where it is the one shown."""

from __future__ import annotations

from aiohttp import web

from api.keys import LEDGER
from api.witnesses import WITNESSES, NotWitnessed
from ledger.receipt import SignedHead


def published_note(app: web.Application, head: SignedHead) -> str:
    """Return the newest checkpoint that the service shows, with its cosignatures; maybe none."""
    try:
        return app[WITNESSES].checkpoint(head)
    except NotWitnessed:
        return head.note


def size_of(note: str) -> int:
    """Return the size that a checkpoint of ours names."""
    return int(note.split("\n")[1])


def note_at(app: web.Application, size: int) -> str:
    """Return the checkpoint of a size: as it was cosigned if that is the one shown, else ours."""
    ledger = app[LEDGER]
    shown = published_note(app, ledger.head)
    return shown if size_of(shown) == size else ledger.proofs.checkpoint_at(size)
