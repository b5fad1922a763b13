"""What is posted to a client's endpoint: one body that every receiver of the protocol takes."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import orjson

from api.ivxp.negotiation import PROTOCOL_1_0
from ledger.content import wire_content, wire_text
from ledger.order import Order, Status
from ledger.values import iso_of

STRUCTURED_PATH: Final = "/ivxp/receive"
"""Receivers at this path read Markdown from `deliverable.content.body`."""


def push_body(order: Order, raw: bytes, *, provider: dict[str, str], path: str) -> bytes:
    """Return the bytes of a push; made from recorded facts alone, so each attempt sends the same.

    SDK receivers check `deliverable.content_hash` against the string beside it, so for bytes in
    base64 it is the digest of that string; `content_hash` at the top is the deliverable's own.
    """
    ready = order.deliverable
    assert ready is not None  # noqa: S101 - only a deliverable is pushed
    content, is_base64 = wire_text(raw)
    at = iso_of(order.status_at[Status.READY])
    inner: object = content
    if path.rstrip("/").endswith(STRUCTURED_PATH):
        inner = wire_content(content, ready.format, order.terms.service)
    return orjson.dumps(
        {
            "protocol": PROTOCOL_1_0,
            "message_type": "service_delivery",
            "timestamp": at,
            "order_id": order.id,
            "status": "delivered",
            "provider_agent": provider,
            "deliverable": {
                "type": order.terms.service,
                "format": ready.format,
                "content": inner,
                "content_hash": sha256(content.encode()).hexdigest() if is_base64 else ready.raw,
            },
            "content": content,
            "content_type": ready.content_type,
            "content_hash": ready.raw,
            "delivered_at": at,
            **({"content_encoding": "base64"} if is_base64 else {}),
        }
    )
