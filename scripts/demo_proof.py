"""What a client checks of every answer, with the keys that it knew before it asked."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass

import orjson
from pydantic import ValidationError

from api.ivxp.responses import LedgerBlock
from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.entry import SignedEvent, verify_entry
from ledger.errors import VerificationError
from ledger.merkle import verify_inclusion
from ledger.signing import ORDER_HEAD_PREFIX, verify_signature
from scripts.buyer import Answer


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a client must know of a provider beforehand: the log and the two keys behind it."""

    origin: str
    wallet: str
    log_key: str


@dataclass(frozen=True, slots=True)
class Proven:
    """An event that the provider cannot take back: signed, and in a tree it signed."""

    position: int
    event: SignedEvent
    tree_size: int


def check_answer(answer: Answer, pinned: Pinned, order_id: str) -> Proven:
    """Return what a write answer proves of an order, or raise `VerificationError`."""
    block = _block(answer)
    # (1): the entry is an event of this log, and its signature is over exactly these bytes.
    event = verify_entry(block.entry.encode(), log=pinned.origin).signed
    # (2): the signer is the provider's wallet, and the event is the order's.
    if event.signer != pinned.wallet:
        raise VerificationError(f"{event.signer} signed, not the provider")
    if event.stream != f"order/{order_id}":
        raise VerificationError(f"the event is of {event.stream}")
    # (3): the log's key signed the tree head, and the header names the same one.
    head = verify_checkpoint(block.checkpoint, pinned.log_key, pinned.origin)
    if answer.ledger_head != f"{head.size} {b64encode(head.root).decode()}":
        raise VerificationError("the header Ledger-Head names another head")
    # (4): the event stands at its position in that tree.
    siblings = [b64decode(sibling, validate=True) for sibling in block.proof]
    verify_inclusion(event.leaf, block.position - 1, head.size, siblings, head.root)
    # (5): the provider signed that nothing of this order came after it.
    _check_order_head(block.order_head, event, head, pinned)
    return Proven(block.position, event, head.size)


def _block(answer: Answer) -> LedgerBlock:
    try:
        return LedgerBlock.model_validate(answer.body.get("ledger"))
    except ValidationError as error:
        raise VerificationError(f"answer {answer.status} carries no proof") from error


def _check_order_head(
    signed: dict[str, str], event: SignedEvent, head: Checkpoint, pinned: Pinned
) -> None:
    text = signed["text"].encode()
    verify_signature(text, signed["signature"], pinned.wallet)
    if not text.startswith(ORDER_HEAD_PREFIX):
        raise VerificationError("the signed text is no order head")
    said = orjson.loads(text.removeprefix(ORDER_HEAD_PREFIX))
    wanted = {
        "log": pinned.origin,
        "stream": event.stream,
        "seq": event.seq,
        "leaf": event.leaf.hex(),
        "size": head.size,
    }
    if said != wanted:
        raise VerificationError("the order head is of another event or another tree")
