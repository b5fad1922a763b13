"""Whether a transaction that a range listed has really left the chain."""

from __future__ import annotations

from ledger.chain import Chain
from ledger.errors import ChainUnavailable
from ledger.finding import ChainView
from ledger.scan import Waiting


async def is_gone(chain: Chain, each: Waiting, view: ChainView) -> bool:
    """Say whether it is a fact that the transaction moved no money.

    A reverted one did not. A missing receipt alone is silence: a node may list logs and lack the
    receipt. Another canonical block at the height is a fact.
    """
    if view is ChainView.REVERTED:
        return True
    if view is not ChainView.NOT_FOUND:
        return False
    try:
        blocks = await chain.blocks([each.block_number])
    except ChainUnavailable:
        return False
    return blocks.hashes.get(each.block_number, each.block_hash) != each.block_hash
