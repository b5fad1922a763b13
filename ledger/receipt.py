"""What a durable command leaves in the hands of its caller."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.entry import SignedEvent
from ledger.event import TreeHead
from ledger.stream import StreamHead
from ledger.tiles import Growth


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The newest tree head and its checkpoint as a signed note."""

    size: int
    root: bytes
    note: str

    @property
    def tree_head(self) -> TreeHead:
        """Return it as events carry it."""
        return TreeHead(size=self.size, root=self.root.hex())


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a durable command left: its events (maybe none), the stream, and the head after it.

    `growth` proves the new events; it is None when nothing was appended.
    """

    events: tuple[SignedEvent, ...]
    first_position: int
    stream: StreamHead
    head: SignedHead
    growth: Growth | None = field(default=None, repr=False)


Answer = Receipt | Exception
