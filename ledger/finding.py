"""What the chain was seen to say about one transaction: all that deciders take from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from ledger.event import Finality, Transfer


class ChainView(StrEnum):
    """How far the chain's answer goes. Only `REVERTED` and `MINED` are facts."""

    UNAVAILABLE = "unavailable"
    """No trustworthy answer: timeout, error, wrong chain id, disagreement, stale node."""
    NOT_FOUND = "not_found"
    """The node knows no receipt, or one whose block is not canonical. It may come."""
    SHALLOW = "shallow"
    """Mined in a canonical block, but not deep enough yet."""
    REVERTED = "reverted"
    """Mined deep enough with status 0."""
    MINED = "mined"
    """Mined deep enough with status 1."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One look at one transaction.

    `transfers` holds the canonical, non-zero Transfer logs of the token to the payment address
    in ordinal order (`SHALLOW` and `MINED` only). `depth` is head - receipt block + 1.
    `finality` is that of the receipt's block. Head and safe block are those of the same answer;
    times are Unix seconds; 0 where unknown. `safe_above` is the price above which nothing counts
    before its block is safe (None: no such price).
    """

    tx_hash: str
    view: ChainView
    transfers: tuple[Transfer, ...] = ()
    depth: int = 0
    finality: Finality = "sealed"
    head_number: int = 0
    head_time: int = 0
    safe_time: int = 0
    detail: str = ""
    safe_above: int | None = None

    def for_price(self, micros: int) -> Finding:
        """Return what this is worth to an order of that price.

        What is at stake is the price, in however many transfers it comes.
        """
        waits = self.safe_above is not None and micros > self.safe_above
        if not waits or self.view is not ChainView.MINED or self.finality != "sealed":
            return self
        detail = f"an order of {micros} micro-USDC waits for a safe block"
        return replace(self, view=ChainView.SHALLOW, detail=detail)
