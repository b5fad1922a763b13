"""Content that may be erased: rows beside the log, which the events commit to.

Free text carries a 32-byte salt and is committed as
`SHA-256("IVXP-COMMIT/1" || salt || field || 0x00 || value)`; a deliverable carries no salt, its
event holds the plain SHA-256 of its bytes. Rows are written in the transaction of their event:
a crash leaves both or neither.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256

from ledger.errors import VerificationError
from ledger.store_sqlite import ContentRow
from ledger.values import new_content_id

DELIVERABLE = "deliverable"
MARKDOWN = "markdown"

# Made once: `json.dumps` makes an encoder for each call that asks for anything unusual.
_LEGACY = json.JSONEncoder(sort_keys=True).encode
_STRINGIFIED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Digests:
    """Every hash by which a client of the protocol may name one deliverable, bare hex.

    `raw` is of the bytes; `json_digest` of `JSON.stringify` of the content string; `legacy_digest`
    of Python's `json.dumps(content, sort_keys=True)` of what a download carries, as old providers
    hashed; `object_digest` of `JSON.stringify` of that where it is an object, else None.
    """

    raw: str
    json_digest: str
    legacy_digest: str
    object_digest: str | None


def digests_of(raw: bytes, content_format: str, title: str) -> Digests:
    """Return the digests of a deliverable; `title` is the order's service."""
    text, _ = wire_text(raw)
    carried = wire_content(text, content_format, title)
    legacy = _LEGACY(carried)
    return Digests(
        raw=sha256(raw).hexdigest(),
        json_digest=_json_digest(text),
        legacy_digest=sha256(legacy.encode()).hexdigest(),
        object_digest=None if isinstance(carried, str) else _json_digest(carried),
    )


def wire_text(raw: bytes) -> tuple[str, bool]:
    """Return content as JSON carries it, and whether that is base64: for bytes that are no text."""
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return b64encode(raw).decode(), True


def wire_content(text: str, content_format: str, title: str) -> str | dict[str, object]:
    """Return `deliverable.content` of a download.

    Older Python clients read `body` of a Markdown deliverable; every other one is the text itself.
    """
    if content_format != MARKDOWN:
        return text
    return {"title": title, "body": text, "sources": []}


def _json_digest(value: object) -> str:
    return sha256(_STRINGIFIED(value).encode()).hexdigest()


def salted(stream: str, field: str, value: str) -> ContentRow:
    """Return a row of free text under a fresh id and salt."""
    return ContentRow(new_content_id(), stream, field, secrets.token_bytes(32), value.encode())


def plain(stream: str, content_id: str, value: bytes) -> ContentRow:
    """Return a deliverable's row."""
    return ContentRow(content_id, stream, DELIVERABLE, b"", value)


def commitment(row: ContentRow) -> str:
    """Return the hex commitment that the event carries for a salted row."""
    return sha256(
        b"IVXP-COMMIT/1" + row.salt + row.field.encode() + b"\x00" + row.value
    ).hexdigest()


def verify_salted(row: ContentRow, committed: str) -> None:
    """Raise `VerificationError` unless the row opens the commitment."""
    if commitment(row) != committed:
        msg = f"the content of {row.field} does not open its commitment"
        raise VerificationError(msg)
