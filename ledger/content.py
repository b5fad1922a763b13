"""Content that may be erased: rows beside the log, which the events commit to.

Free text carries a 32-byte salt and is committed as
`SHA-256("IVXP-COMMIT/1" || salt || field || 0x00 || value)`; a deliverable carries no salt, its
event holds the plain SHA-256 of its bytes. Rows are written in the transaction of their event:
a crash leaves both or neither.
"""

from __future__ import annotations

import secrets
from hashlib import sha256

from ledger.errors import VerificationError
from ledger.store_sqlite import ContentRow
from ledger.values import new_content_id

DELIVERABLE = "deliverable"


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
