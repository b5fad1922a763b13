"""How deep a transaction must lie before it counts. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ledger.chain_quorum import Sight
from ledger.finding import ChainView, Finding


@dataclass(frozen=True, slots=True)
class Policy:
    """The required depth, and the amount above which a block must be safe (None: never)."""

    min_confirmations: int
    safe_above_micros: int | None

    def waits_for_safe(self, micros: int) -> bool:
        """Whether an amount counts only from a safe block on."""
        return self.safe_above_micros is not None and micros > self.safe_above_micros

    def judged(self, tx_hash: str, sight: Sight) -> Finding:
        """Return what a sight is worth under this policy."""
        tips, fact = sight.tips, sight.fact
        seen = Finding(
            tx_hash,
            ChainView.NOT_FOUND,
            head_number=tips.head.number,
            head_time=tips.head.timestamp,
            safe_time=tips.settled.timestamp if tips.settled is not None else 0,
            detail=sight.why,
            safe_above=self.safe_above_micros,
        )
        if fact is None:
            return seen
        depth = tips.head.number - fact.block.number + 1
        finality = tips.finality(fact.block.number)
        shallow = ""
        amount = sum(each.amount for each in fact.transfers)
        if depth < self.min_confirmations:
            shallow = f"{depth} of {self.min_confirmations} confirmations"
        elif self.waits_for_safe(amount) and finality == "sealed":
            shallow = f"{amount} micro-USDC wait for a safe block"
        view = ChainView.MINED if fact.succeeded else ChainView.REVERTED
        return replace(
            seen,
            view=ChainView.SHALLOW if shallow else view,
            transfers=fact.transfers,
            depth=depth,
            finality=finality,
            detail=shallow,
        )
