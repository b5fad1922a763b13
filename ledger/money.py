"""The money of an order: every transfer in exactly one place, in integer micro-USDC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ledger.event import Transfer

TransferId = tuple[str, str, int]


class Bucket(StrEnum):
    """Where an incoming transfer stands."""

    PENDING = "pending"
    APPLIED = "applied"
    LATE = "late"
    UNATTRIBUTED = "unattributed"
    ORPHANED = "orphaned"


@dataclass(frozen=True, slots=True)
class Placed:
    """A transfer in its bucket; `was` is where an orphaned one stood before the reorganisation."""

    transfer: Transfer
    bucket: Bucket
    was: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """Folded from events that are legal in every status; all amounts in micro-USDC."""

    placed: Mapping[TransferId, Placed] = field(default_factory=dict)
    returned: Mapping[TransferId, int] = field(default_factory=dict)
    withdrawn: int = 0
    """What had gone back of the pending money when the price was reached: it covers nothing."""

    def total(self, bucket: Bucket) -> int:
        """Return the sum of one bucket."""
        return sum(p.transfer.amount for p in self.placed.values() if p.bucket is bucket)

    @property
    def received(self) -> int:
        """Everything on the canonical chain: pending, applied, late and unattributed."""
        return sum(
            p.transfer.amount for p in self.placed.values() if p.bucket is not Bucket.ORPHANED
        )

    @property
    def refunded(self) -> int:
        """Everything that was verified to have gone back."""
        return sum(self.returned.values())

    @property
    def held(self) -> int:
        """What the provider still holds of this order."""
        return self.received - self.refunded

    @property
    def counted(self) -> int:
        """What counts towards the price until it is reached: pending money that is still held.

        Late money is due back, so it is taken to have gone back first.
        """
        return min(self.total(Bucket.PENDING), self.held)

    @property
    def covered(self) -> int:
        """What covers the price once it was reached; a refund made since then uncovers nothing."""
        return self.total(Bucket.APPLIED) - self.withdrawn

    def of(self, *buckets: Bucket) -> tuple[Transfer, ...]:
        """Return the transfers in these buckets, in the order they were recorded."""
        return tuple(p.transfer for p in self.placed.values() if p.bucket in buckets)

    def buckets_of(self, tx_hash: str) -> frozenset[Bucket]:
        """Return where the transfers of a transaction stand; nowhere if none is known."""
        return frozenset(p.bucket for p in self.placed.values() if p.transfer.tx_hash == tx_hash)

    def place(self, transfers: Iterable[Transfer], bucket: Bucket) -> Money:
        """Put transfers into a bucket; a known one moves there with its newest block."""
        new = {t.key: Placed(t, bucket) for t in transfers}
        return replace(self, placed={**self.placed, **new})

    def apply_pending(self) -> Money:
        """Move every pending transfer to applied: the price is reached."""
        moved = {
            key: Placed(p.transfer, Bucket.APPLIED) if p.bucket is Bucket.PENDING else p
            for key, p in self.placed.items()
        }
        return replace(
            self, placed=moved, withdrawn=max(0, self.refunded - self.total(Bucket.LATE))
        )

    def orphan(self, keys: Iterable[TransferId]) -> Money:
        """Take transfers off the chain; unknown keys are ignored, evolve never refuses."""
        gone = set(keys)
        moved = {
            key: Placed(p.transfer, Bucket.ORPHANED, p.was or p.bucket) if key in gone else p
            for key, p in self.placed.items()
        }
        return replace(self, placed=moved)

    def restore(self, transfers: Iterable[Transfer], *, paid: bool) -> Money:
        """Put transfers back on the chain: re-mined ones where they stood, new ones applied.

        Nothing of a paid order is pending: a part that comes back belongs to what was applied.
        """
        placed = dict(self.placed)
        for transfer in transfers:
            before = placed.get(transfer.key)
            bucket = (before.was if before else None) or Bucket.APPLIED
            if paid and bucket is Bucket.PENDING:
                bucket = Bucket.APPLIED
            placed[transfer.key] = Placed(transfer, bucket)
        return replace(self, placed=placed)

    def refund(self, transfers: Iterable[Transfer]) -> Money:
        """Record transfers back to the client."""
        new = {t.key: t.amount for t in transfers}
        return replace(self, returned={**self.returned, **new})
