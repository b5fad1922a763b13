"""Whether a transaction that a range of blocks listed can be let go of."""

from __future__ import annotations

from ledger.chain import Chain
from ledger.finding import ChainView
from ledger.scan import Scan, Waiting

_UNKNOWN = (ChainView.UNAVAILABLE, ChainView.SHALLOW)


async def is_over(chain: Chain, scan: Scan, each: Waiting) -> bool:
    """Whether every log that was listed was also shown, or is a fact no longer.

    A missing receipt is no answer, however old its block: a node may list logs and serve receipts
    late. What was invented, or left the chain, is not in the settled block either.
    """
    if each.seen is None or each.seen.finding.view in _UNKNOWN:
        return False
    if each.unshown and not scan.is_settled(each):
        return False
    has_receipt = each.seen.finding.view is not ChainView.NOT_FOUND
    for glimpse in each.unshown:
        if has_receipt and glimpse.block_hash != each.seen.block_hash:
            continue  # it is in another block now, and listed there
        if not await chain.is_gone(glimpse, has_receipt=has_receipt):
            return False
    return True
