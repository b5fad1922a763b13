"""What an answer shows of the log, read and verified against known keys. Pure.

Whether the shown head continues the one that the client keeps is decided elsewhere: here nothing
is asked and nothing is stored.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from api.client.logkeys import LogBook
from api.client.shapes import parsed
from api.ivxp.responses import LedgerBlock
from ledger.checkpoint import Checkpoint
from ledger.entry import SignedEvent, verify_entry
from ledger.errors import VerificationError
from ledger.merkle import HASH_BYTES, verify_inclusion
from ledger.signing import ORDER_HEAD_PREFIX, verify_signature

LEDGER_HEAD: Final = "Ledger-Head"
CONSISTENCY: Final = "Ledger-Consistency"
_HEAD: Final = re.compile(r"(?P<size>0|[1-9][0-9]{0,14}) (?P<root>[A-Za-z0-9+/]{43}=)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Proven:
    """An event that the provider cannot take back: signed, and in a tree that it signed."""

    position: int
    event: SignedEvent
    checkpoint: Checkpoint
    note: str


def prove(block: object, book: LogBook) -> Proven:
    """Return what a `ledger` block proves, or raise `VerificationError` or `AnswerRefused`."""
    said = parsed(LedgerBlock, block)
    # (1): a key of the log signed the tree head.
    checkpoint = book.checkpoint(said.checkpoint)
    # (2): the entry is an event of this log, signed by a wallet that may sign at its position.
    event = verify_entry(said.entry.encode(), log=book.origin).signed
    book.require_signer(event.signer, said.position)
    # (3): the event stands at its position in that tree.
    if event.leaf.hex() != said.leaf:
        raise VerificationError("the leaf is not the entry's")
    siblings = [hash_of(sibling) for sibling in said.proof]
    verify_inclusion(event.leaf, said.position - 1, checkpoint.size, siblings, checkpoint.root)
    # (4): the provider signed that nothing of this stream came after it.
    verify_order_head(said.order_head, book, event, checkpoint)
    return Proven(said.position, event, checkpoint, said.checkpoint)


def verify_order_head(
    signed: Mapping[str, str], book: LogBook, event: SignedEvent, checkpoint: Checkpoint
) -> None:
    """Raise `VerificationError` unless this signs that `event` ends its stream at this size."""
    text, signer = signed.get("text", ""), signed.get("signer", "")
    book.require_signer(signer, checkpoint.size)
    verify_signature(text.encode(), signed.get("signature", ""), signer)
    if not text.encode().startswith(ORDER_HEAD_PREFIX):
        raise VerificationError("the signed text is no order head")
    wanted = {
        "log": book.origin,
        "stream": event.stream,
        "seq": event.seq,
        "leaf": event.leaf.hex(),
        "size": checkpoint.size,
    }
    try:
        said = orjson.loads(text.encode().removeprefix(ORDER_HEAD_PREFIX))
    except orjson.JSONDecodeError as error:
        raise VerificationError("the order head is no JSON") from error
    if said != wanted:
        raise VerificationError("the order head is of another event or another tree")


def head_of(headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    """Return size and root that the header names; None without one that can be read."""
    match = _HEAD.fullmatch(headers.get(LEDGER_HEAD, ""))
    return (int(match["size"]), b64decode(match["root"])) if match else None


def consistency_of(headers: Mapping[str, str], size: int) -> Sequence[bytes] | None:
    """Return the proof that the header holds from a size on; None without one."""
    first, *rest = headers.get(CONSISTENCY, "").split(" ")
    if first != str(size):
        return None
    try:
        return [hash_of(sibling) for sibling in rest]
    except VerificationError:
        return None


def hash_of(text: str) -> bytes:
    """Return a hash in its one base64 form, or raise `VerificationError`."""
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise VerificationError("a hash is in base64") from error
    if len(data) != HASH_BYTES or b64encode(data).decode() != text:
        raise VerificationError(f"a hash is {HASH_BYTES} bytes in base64")
    return data
