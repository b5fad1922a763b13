"""Shaping answers: JSON bytes, and the ledger's own part of every write answer."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import orjson
from aiohttp import web
from pydantic import Field

from api.ivxp.negotiation import VARY, is_strict
from api.keys import LEDGER
from ledger.entry import read_entry
from ledger.errors import OutcomeUnknown
from ledger.receipt import Receipt, SignedHead
from ledger.service import Ledger

LEDGER_HEAD: Final = "Ledger-Head"
REPLAYED: Final = "Idempotency-Replayed"
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""ISO 8601 with milliseconds and `Z`, in an answer."""


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/json"
    )


def ledger_head(head: SignedHead) -> str:
    """Return the value of the `Ledger-Head` header: size and base64 root."""
    return f"{head.size} {b64encode(head.root).decode()}"


def ledger_block(ledger: Ledger, receipt: Receipt) -> dict[str, object]:
    """Return what the client keeps of a write: the newest event of its order and its proof.

    `entry` is the event's exact text, `proof` its siblings from leaf to root in base64 against the
    tree of `checkpoint`. Whoever keeps one `entry` can later prove a rewritten history.
    """
    stream, head = receipt.stream, receipt.head
    position = stream.position
    if receipt.growth is not None and receipt.events:
        proof = receipt.growth.inclusion_proof(position - 1)
        entry = receipt.events[-1].entry
    else:
        proof = ledger.proofs.inclusion(position, head.size)
        entry = ledger.store.entry_at(position) or b""
    place = (stream.stream, stream.seq, stream.leaf)
    return _block(ledger, position, place, entry, head, proof)


def proven_response(
    request: web.Request, body: dict[str, object], receipt: Receipt
) -> web.Response:
    """Return the answer of a write: its body with the ledger's part and the head."""
    ledger = request.app[LEDGER]
    return _answer(request, body, receipt.head, lambda: ledger_block(ledger, receipt))


def replayed_response(request: web.Request, body: dict[str, object], position: int) -> web.Response:
    """Return an answer that was given before, proven against the newest head."""
    ledger = request.app[LEDGER]
    head = ledger.head
    response = _answer(request, body, head, lambda: _block_at(ledger, position, head))
    response.headers[REPLAYED] = "true"
    return response


def _answer(
    request: web.Request,
    body: dict[str, object],
    head: SignedHead,
    block: Callable[[], dict[str, object]],
) -> web.Response:
    if not is_strict(request):
        body = {**body, "ledger": block()}
    return json_response(body, headers={LEDGER_HEAD: ledger_head(head), **VARY})


def _block_at(ledger: Ledger, position: int, head: SignedHead) -> dict[str, object]:
    entry = ledger.store.entry_at(position)
    if entry is None or position > head.size:
        raise OutcomeUnknown("the ledger's newest head is not signed yet; ask again")
    signed = read_entry(entry)
    proof = ledger.proofs.inclusion(position, head.size)
    place = (signed.stream, signed.seq, signed.leaf.hex())
    return _block(ledger, position, place, entry, head, proof)


def _block(
    ledger: Ledger,
    position: int,
    place: tuple[str, int, str],
    entry: bytes,
    head: SignedHead,
    proof: list[bytes],
) -> dict[str, object]:
    stream, seq, leaf = place
    return {
        "position": position,
        "leaf": leaf,
        "entry": entry.decode(),
        "checkpoint": head.note,
        "proof": [b64encode(sibling).decode() for sibling in proof],
        "order_head": ledger.proofs.order_head(stream, seq, leaf, head.size),
    }
