"""Shaping answers: JSON bytes, and the ledger's own part of every write answer."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import web

from ledger.receipt import Receipt, SignedHead
from ledger.service import Ledger

LEDGER_HEAD: Final = "Ledger-Head"


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
        proof = ledger.proof(position, head.size)
        entry = ledger.store.entry_at(position) or b""
    return {
        "position": position,
        "leaf": stream.leaf,
        "entry": entry.decode(),
        "checkpoint": head.note,
        "proof": [b64encode(sibling).decode() for sibling in proof],
        "order_head": ledger.order_head(stream.stream, stream.seq, stream.leaf, head.size),
    }


def write_response(
    ledger: Ledger, receipt: Receipt, body: dict[str, object], *, status: int = 200
) -> web.Response:
    """Return the answer of a write: its body with the ledger's part and the head."""
    return json_response(
        {**body, "ledger": ledger_block(ledger, receipt)},
        status=status,
        headers={LEDGER_HEAD: ledger_head(receipt.head)},
    )
