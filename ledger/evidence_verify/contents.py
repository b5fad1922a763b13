"""Content: every hash that names a deliverable, and what opens a commitment."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode

from ledger.evidence_verify.basics import Doc, encoded, need
from ledger.evidence_verify.bundle import Opening
from ledger.evidence_verify.shapes import Entry
from ledger.evidence_verify.words import bare_digest, read_text, signed_part


def require_opened(opening: Opening, entry: Entry) -> None:
    """Raise `Bad` unless a text is what its event committed to, and what its author signed."""
    need(opening.commitment, f"no event commits to {opening.field}")
    if opening.value is None:
        return
    salted = b"IVXP-COMMIT/1" + bytes.fromhex(opening.salt) + encoded(opening.field)
    digest = hashlib.sha256(salted + b"\x00" + opening.value).hexdigest()
    need(digest == opening.commitment, f"{opening.file} does not open its commitment")
    part = signed_part(entry) if opening.field == "statement" else None
    if part is not None:
        named = bare_digest(read_text(entry.kind, part["text"]).get("statement"))
        digest = hashlib.sha256(opening.value).hexdigest()
        need(named in (None, digest), "the client signed another statement")


def content_digests(raw: bytes, content_format: str, title: str) -> Doc:
    """Return every hash by which a client of the protocol may name a deliverable."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = b64encode(raw).decode()
    structured = {"title": title, "body": text, "sources": []}
    carried: object = structured if content_format == "markdown" else text
    digests = {
        "raw": hashlib.sha256(raw).hexdigest(),
        "json_digest": _json_digest(text),
        "legacy_digest": hashlib.sha256(encoded(json.dumps(carried, sort_keys=True))).hexdigest(),
    }
    return {**digests, "object_digest": _json_digest(carried)} if carried != text else digests


def _json_digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(encoded(text)).hexdigest()
