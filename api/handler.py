"""What a service handler gets and what it returns."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.commands import Deliverable
from ledger.values import new_content_id

MAX_WORD: Final = 200


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """One paid order's work: the service, the client's words, and the format it asked for."""

    order_id: str
    service: str
    description: str
    delivery_format: str | None

    def input_text(self) -> str:
        """Return the text to work on: the `text` member if the description is a JSON object."""
        if not self.description.startswith("{"):
            return self.description
        try:
            value = json.loads(self.description)
        except ValueError:
            return self.description
        text = value.get("text") if isinstance(value, dict) else None
        return text if isinstance(text, str) else self.description


@dataclass(frozen=True, slots=True)
class Produced:
    """The deliverable: text or bytes, with the format word of the protocol and a media type."""

    content: str | bytes
    format: str
    content_type: str

    def __post_init__(self) -> None:
        """Refuse what the ledger could not record, while the handler is still the one to blame."""
        if not isinstance(self.content, str | bytes):
            raise TypeError("a deliverable is text or bytes")
        for word in (self.format, self.content_type):
            if not 0 < len(word) <= MAX_WORD:
                raise ValueError(f"format and content_type have 1 to {MAX_WORD} characters")

    @property
    def raw(self) -> bytes:
        """Return the bytes that are handed out; serialised once, stored, hashed and sent as is."""
        return self.content.encode() if isinstance(self.content, str) else self.content

    def deliverable(self) -> Deliverable:
        """Return the digests that the ledger records.

        `json_digest` is the documents' rule: SHA-256 of `JSON.stringify` of the content string.
        """
        raw = self.raw
        quoted = json.dumps(wire_text(raw)[0], ensure_ascii=False)
        return Deliverable(
            content_id=new_content_id(),
            raw=sha256(raw).hexdigest(),
            json_digest=sha256(quoted.encode()).hexdigest(),
            size_bytes=len(raw),
            format=self.format,
            content_type=self.content_type,
        )


def wire_text(raw: bytes) -> tuple[str, bool]:
    """Return content as JSON carries it, and whether that is base64: for bytes that are no text."""
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return b64encode(raw).decode(), True


Handler = Callable[[ServiceRequest], Produced | Awaitable[Produced]]
