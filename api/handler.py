"""What a service handler gets and what it returns."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ledger.commands import Deliverable
from ledger.content import digests_of
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

    def deliverable(self, service: str) -> Deliverable:
        """Return the digests that the ledger records for an order of this service."""
        raw = self.raw
        digests = digests_of(raw, self.format, service)
        return Deliverable(
            content_id=new_content_id(),
            raw=digests.raw,
            json_digest=digests.json_digest,
            legacy_digest=digests.legacy_digest,
            object_digest=digests.object_digest,
            size_bytes=len(raw),
            format=self.format,
            content_type=self.content_type,
        )


Handler = Callable[[ServiceRequest], Produced | Awaitable[Produced]]
