"""The evidence bundle over HTTP: for the order's client and arbiter, auditors and the operator."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final

from aiohttp import ETag, web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.answers import LEDGER_HEAD, ledger_head
from api.handout import write_in_pieces
from api.ivxp.parties import known_order
from api.keys import HAND_OUTS, LEDGER, SETTINGS
from api.log.notes import published_note, size_of
from ledger.errors import InvalidInput
from ledger.evidence import Bundle, Wanted, assemble, parse_redactions
from ledger.receipt import SignedHead
from ledger.service import Ledger
from ledger.values import order_stream

ZIP: Final = "application/zip"
MAKING: Final = web.AppKey("making", asyncio.Semaphore)
"""One bundle at a time: making them is work for the processor, and the writer needs it too."""

_SIZE: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_CACHE: Final = "private, no-cache"


class EvidenceQuery(BaseModel):
    """As of which size of the log, and which content to leave out (a comma list of fields)."""

    model_config = ConfigDict(extra="ignore")

    size: Annotated[int, Field(ge=0, lt=10**15)] | None = None
    redact: Annotated[str, StringConstraints(max_length=200)] | None = None


async def get_evidence(request: web.Request) -> web.StreamResponse:
    """Return the evidence bundle of an order: a zip, the same bytes for the same question.

    Without `size` it is made against the newest cosigned head that holds the whole order, or the
    newest head of all. Making it reads files and signs, so it is done beside the event loop.
    """
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    redact = parse_redactions(request.query.get("redact", ""))
    size, head = _asked_size(request, ledger.head), ledger.head
    published = published_note(request.app, head)
    policies = (request.app[SETTINGS].refund_policy,)

    def make() -> Bundle:
        at, note = _final_head(ledger, order.id, size, head, published)
        wanted = Wanted(order.id, at, note, redact, policies)
        return assemble(ledger.store, ledger.signer, wanted)

    async with request.app[MAKING]:
        bundle = await asyncio.to_thread(make)
    return await _answer(request, bundle, head)


def _asked_size(request: web.Request, head: SignedHead) -> int | None:
    text = request.query.get("size")
    if text is None:
        return None
    if not _SIZE.fullmatch(text) or int(text) > head.size:
        msg = f"size: is a number of events, and the log ends at {head.size}"
        raise InvalidInput(msg, details={"field": "size"})
    return int(text)


def _final_head(
    ledger: Ledger, order_id: str, size: int | None, head: SignedHead, published: str
) -> tuple[int, str]:
    """Return size and note of the head that everything in the bundle is proven against."""
    shown = size_of(published)
    if size is None:
        last = ledger.store.read_stream(order_stream(order_id))[-1][0]
        return (shown, published) if shown >= last else (head.size, head.note)
    return size, published if size == shown else ledger.proofs.checkpoint_at(size)


async def _answer(request: web.Request, bundle: Bundle, head: SignedHead) -> web.StreamResponse:
    """Send the bundle piece by piece, unless the caller has this very one."""
    known = request.if_none_match or ()
    is_known = any(each.value in (bundle.digest, "*") for each in known)
    response = web.StreamResponse(status=304 if is_known else 200)
    response.etag = ETag(bundle.digest)
    response.headers.update({LEDGER_HEAD: ledger_head(head), "Cache-Control": _CACHE})
    response.content_type = ZIP
    try:
        if is_known:
            await response.prepare(request)
            await response.write_eof()
            return response
        response.headers["Content-Disposition"] = f'attachment; filename="{bundle.name}"'
        key = (ZIP, bundle.digest)
        async with request.app[HAND_OUTS].body(key, lambda: bundle.data) as body:
            await write_in_pieces(request, response, body)
    except ConnectionError:
        return response  # the caller went away, and may ask again
    return response
