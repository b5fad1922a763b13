"""What an order must be, reckoned a second time: its status, its money, its pushes, its content.

Nothing here calls the code that decides or folds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ledger.values import parse_iso

Json = dict[str, Any]
Key = tuple[str, int]
"""A transfer: its transaction, and the place of its log among those of the transaction."""

PENDING, APPLIED, LATE, ORPHANED = "pending", "applied", "late", "orphaned"

NEXT: Final = {
    "quoted": "paid expired",
    "expired": "paid refunded",
    "paid": "processing refunded disputed",
    "processing": "ready delivery_failed refunded disputed",
    "ready": "posted delivered delivery_failed confirmed disputed refunded",
    "posted": "delivered confirmed disputed refunded",
    "delivered": "confirmed disputed refunded",
    "delivery_failed": "processing posted delivered confirmed disputed refunded",
    "disputed": "confirmed refunded ready",
    "confirmed": "refunded",
    "refunded": "",
}
"""What may follow what."""

STATUSES: Final = frozenset(NEXT)
DELIVERABLE: Final = {"content_id": "deliverable"}


@dataclass
class Coin:
    """One incoming transfer of an order, as its newest event described it."""

    amount: int
    block_hash: str
    bucket: str
    was: str | None = None


@dataclass
class Claim:
    tx: str
    text: str


@dataclass
class Pushed:
    """What became of the pushes to one target."""

    made: int = 0
    last_ms: int = 0
    over: bool = False


@dataclass
class Shadow:
    """One order. `kinds` is its whole history; `at` has the newest time of each status."""

    order_id: str
    client: str
    price: int
    pay_by: int
    deliver_by: int
    created_ms: int
    service: str
    contents: dict[str, str] = field(default_factory=dict)
    """What the events refer to and may be erased: id to field."""
    erased: set[str] = field(default_factory=set)
    kinds: list[str] = field(default_factory=lambda: ["quoted"])
    status: str = "quoted"
    at: dict[str, int] = field(default_factory=dict)
    word_before_dispute: str = ""
    coins: dict[Key, Coin] = field(default_factory=dict)
    returned: dict[Key, int] = field(default_factory=dict)
    withdrawn: int = 0
    claims: list[Claim] = field(default_factory=list)
    nonces: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    told_to_wait: set[str] = field(default_factory=set)
    """Notices that were answered as pending."""
    notice_tx: str | None = None
    """The transaction of the notice that was accepted."""
    notice_text: str = ""
    endpoint: str | None = None
    digest: str | None = None
    first_download: bool = False
    pushed: dict[str, Pushed] = field(default_factory=dict)
    rating: int | None = None
    acceptance_lapsed: bool = False
    dispute_open: bool = False
    disputed_ms: int = 0
    dispute_answered: bool = False
    answer_lapsed: bool = False
    withdrawn_dispute: bool = False
    endings: set[str] = field(default_factory=set)
    ruled: tuple[str, int] | None = None
    complaint: str | None = None
    newest_ms: int = 0

    # What the money amounts to.

    def total(self, *buckets: str) -> int:
        return sum(c.amount for c in self.coins.values() if c.bucket in buckets)

    @property
    def received(self) -> int:
        return self.total(PENDING, APPLIED, LATE)

    @property
    def refunded(self) -> int:
        return sum(self.returned.values())

    @property
    def held(self) -> int:
        return self.received - self.refunded

    @property
    def counted(self) -> int:
        """What counts towards the price before it is reached."""
        return min(self.total(PENDING), self.held)

    @property
    def covered(self) -> int:
        return self.total(APPLIED) - self.withdrawn

    @property
    def was_paid(self) -> bool:
        return "paid" in self.at

    @property
    def paused(self) -> bool:
        return self.was_paid and self.covered < self.price

    @property
    def accepted(self) -> bool:
        return self.notice_tx is not None

    @property
    def due(self) -> int:
        """What is missing of the price."""
        return self.price - (self.covered if self.was_paid else self.counted)

    @property
    def content_held(self) -> bool:
        return self.digest is not None and self.held_id("deliverable") is not None

    @property
    def needs_content(self) -> bool:
        """Whether work needs what the client said, or may come to need it."""
        may_be_retried = self.status == "delivery_failed" and self.digest is None
        return may_be_retried or self.status in ("quoted", "paid", "processing")

    def held_id(self, name: str) -> str | None:
        """Return the newest content of a field, if it was not erased."""
        ids = [i for i, each in self.contents.items() if each == name]
        return ids[-1] if ids and ids[-1] not in self.erased else None

    @property
    def target(self) -> str | None:
        """Where pushes go: where the notice said, else where the quote did."""
        if self.endpoint is not None:
            return "delivery_endpoint"
        return "contact_endpoint" if "contact_endpoint" in self.contents.values() else None

    @property
    def push_to_come(self) -> bool:
        """Whether a push is still to come, now or later."""
        target = self.target
        if not self.content_held or target is None or self.status == "refunded":
            return False
        endpoint = self.endpoint or self.held_id("contact_endpoint")
        made = self.pushed.get(target)
        if endpoint is None or endpoint in self.erased or (made is not None and made.over):
            return False
        first_contact = made is None and target == "contact_endpoint"
        return self.status != "confirmed" or first_contact

    @property
    def accepting(self) -> bool:
        """Whether the client may still object to what it got."""
        waits = self.status in ("ready", "posted", "delivered", "delivery_failed")
        return waits and "ready" in self.at and not (self.dispute_open or self.acceptance_lapsed)

    def allows(self, status: str) -> bool:
        return status in NEXT[self.status].split()


def shadow_of(event: Json, body: Json) -> Shadow:
    """Return the order that its first event makes."""
    at = parse_iso(event["at"])
    return Shadow(
        contents=contents_of(body),
        order_id=event["stream"].removeprefix("order/"),
        client=body["client"].rpartition(":")[2],
        price=int(body["price"]),
        pay_by=body["pay_by"],
        deliver_by=body["deliver_by"],
        created_ms=at,
        service=body["service"],
        at={"quoted": at},
        newest_ms=at,
    )


def contents_of(body: Json) -> dict[str, str]:
    """Return the content that an event refers to: id to field."""
    names = {n: n.removesuffix("_id") for n in body if n.endswith("_id")} | DELIVERABLE
    return {body[member]: name for member, name in names.items() if member in body}
