"""What a node's answers must look like: parsed here once, or the chain is unavailable."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as Malformed
from pydantic.alias_generators import to_camel

from ledger.chain_bloom import bloom_of
from ledger.errors import ChainUnavailable
from ledger.rpc import Call

_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
A = TypeVar("A", bound="Answer")


def _integer(raw: object) -> int:
    if not isinstance(raw, str) or not _QUANTITY.fullmatch(raw):
        raise ValueError("is not a quantity in hexadecimal digits")
    return int(raw, 16)


# The bounds are those of the fields of `Transfer`.
_Number = Annotated[int, BeforeValidator(_integer), Field(lt=2**53)]
_Time = Annotated[int, BeforeValidator(_integer), Field(lt=2**40)]
_Index = Annotated[int, BeforeValidator(_integer), Field(lt=2**31)]
_Word = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$", to_lower=True)]
_Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$", to_lower=True)]
_Data = Annotated[str, StringConstraints(pattern=r"^0x([0-9a-fA-F]{2})*$")]
_Bloom = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{512}$", to_lower=True)]


class Answer(BaseModel):
    """What we read of a node's answer; the rest of it is not looked at."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", alias_generator=to_camel)


class Block(Answer):
    number: _Number
    hash: _Word
    timestamp: _Time


class FullBlock(Block):
    """A block with the hashes of its transactions."""

    transactions: list[_Word]


class Log(Answer):
    address: _Address
    topics: list[_Word]
    data: _Data
    log_index: _Index
    transaction_hash: _Word
    block_hash: _Word
    removed: bool = False


class ScannedLog(Log):
    """A log as a range of blocks lists it, outside of its receipt."""

    block_number: _Number


class Receipt(Answer):
    transaction_hash: _Word
    block_hash: _Word
    block_number: _Number
    status: Annotated[_Number, Field(lt=2)]
    logs: list[Log]
    logs_bloom: _Bloom


class ChainId(Answer):
    number: _Number


def block_call(tag: str | int) -> Call:
    return ("eth_getBlockByNumber", [hex(tag) if isinstance(tag, int) else tag, False])


def parsed(kind: type[A], raw: object) -> A:
    try:
        return kind.model_validate(raw)
    except Malformed as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
    raise unavailable(f"the node's answer is malformed at {place!r}: {first['msg']}", "malformed")


def sealed_receipt(raw: object, tx_hash: str) -> Receipt | None:
    """Return the receipt, or None without one or while no sealed block holds it."""
    if raw is None or (isinstance(raw, dict) and raw.get("blockHash", "") is None):
        return None
    receipt = parsed(Receipt, raw)
    hashes = {log.transaction_hash for log in receipt.logs} | {receipt.transaction_hash}
    blocks = {log.block_hash for log in receipt.logs} | {receipt.block_hash}
    if hashes != {tx_hash} or len(blocks) != 1:
        raise unavailable("the receipt or its logs are another transaction's", "malformed")
    marked = (value for log in receipt.logs for value in (log.address, *log.topics))
    if receipt.logs_bloom != bloom_of(marked):
        raise unavailable("the receipt's logs are not those of its own filter", "malformed")
    return receipt


def unavailable(message: str, reason: str) -> ChainUnavailable:
    return ChainUnavailable(message, details={"reason": reason})
