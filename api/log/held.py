"""The head that a client holds: sent along as `Ledger-Head`, it makes every answer prove itself.

A client that keeps the newest head it saw, and sends it with each request, finds out with the next
answer when the provider shows it another history.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from api.answers import LEDGER_HEAD
from api.cors import add_vary
from api.keys import LEDGER
from api.routes import route_of
from ledger.errors import Conflict, InvalidInput
from ledger.event import TreeHead
from ledger.merkle import HASH_BYTES
from ledger.service import Ledger

CONSISTENCY: Final = "Ledger-Consistency"
HELD: Final = web.RequestKey("held", TreeHead)
_HEAD: Final = re.compile(r"(?P<size>0|[1-9][0-9]{0,14}) (?P<root>[A-Za-z0-9+/]{43}=)", re.ASCII)


class Ahead(Conflict):
    """The client's head is larger than our ledger: nothing was recorded."""

    code = "AHEAD"


class Fork(Conflict):
    """The client's head is of another history than ours: nothing was recorded."""

    code = "FORK"


@web.middleware
async def compare_head(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse to go on with a client whose history is not ours; the refusal is evidence."""
    texts = request.headers.getall(LEDGER_HEAD, [])
    if texts and route_of(request) is not None:
        if len(texts) > 1:
            raise InvalidInput(f"{LEDGER_HEAD}: is sent once", details={"field": LEDGER_HEAD})
        held = _parsed(texts[0])
        require_same_history(request.app[LEDGER], held)
        request[HELD] = held
    return await handler(request)


async def add_consistency(request: web.Request, response: web.StreamResponse) -> None:
    """Prove to a client that sent its head that the head of this answer continues it.

    Whether one was sent decides on the answer, so a cache that others share keeps them apart.
    """
    if route_of(request) is not None:
        add_vary(response.headers, LEDGER_HEAD)
    held = request.get(HELD)
    if held is None:
        return
    ledger = request.app[LEDGER]
    shown = response.headers.get(LEDGER_HEAD)
    if shown is None or int(shown.partition(" ")[0]) < held.size:
        head = ledger.head
        shown = f"{head.size} {b64encode(head.root).decode()}"
        response.headers[LEDGER_HEAD] = shown
    size = int(shown.partition(" ")[0])
    proof = ledger.proofs.consistency(held.size, size)
    response.headers[CONSISTENCY] = " ".join(
        [str(held.size), *(b64encode(sibling).decode() for sibling in proof)]
    )


def _parsed(text: str) -> TreeHead:
    match = _HEAD.fullmatch(text)
    root = b64decode(match["root"]) if match else b""
    if match is None or len(root) != HASH_BYTES or b64encode(root).decode() != match["root"]:
        msg = f"{LEDGER_HEAD}: is a size and a root in base64"
        raise InvalidInput(msg, details={"field": LEDGER_HEAD})
    return TreeHead(size=int(match["size"]), root=root.hex())


def require_same_history(ledger: Ledger, held: TreeHead) -> None:
    """Raise `Ahead` or `Fork`, with our signed word, for a head that is none of this log."""
    head = ledger.head
    said = {"size": held.size, "root": held.root}
    if held.size > head.size:
        msg = "the head that you hold is larger than this ledger: keep it, it is evidence"
        raise Ahead(msg, details={"held": said, "checkpoint": head.note})
    root = head.root if held.size == head.size else ledger.proofs.root_at(held.size)
    if root.hex() != held.root:
        msg = "the head that you hold is of another history: keep it, it is evidence"
        details = {
            "held": said,
            "checkpoint_at_held_size": ledger.proofs.checkpoint_at(held.size),
            "checkpoint": head.note,
        }
        raise Fork(msg, details=details)
