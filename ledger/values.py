"""Values that are parsed once at the border and trusted after: ids, accounts, hashes, money, time.

Money is an integer of micro-USDC (6 decimals). Time is an integer of Unix milliseconds (`UnixMs`)
for our own events, and of Unix seconds where a block's clock is compared.
"""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Final, NewType
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints

from ledger.errors import InvalidInput

OrderId = NewType("OrderId", str)
UnixMs = NewType("UnixMs", int)

ZERO_ADDRESS: Final = "0x" + "0" * 40
ZERO_LEAF: Final = "0" * 64
STREAM_NAMESPACE: Final = uuid5(NAMESPACE_URL, "urn:ivxp-ledger:stream")
LOG_STREAM: Final = "log"

_ORDER_ID = re.compile(r"ivxp-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_TX_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_MICROS = re.compile(r"0|[1-9][0-9]{0,29}")
_DIGEST = re.compile(r"(?:sha256:|0x)?([0-9a-fA-F]{64})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)",
    re.ASCII,
)


def _micros_from_wire(value: object) -> object:
    if isinstance(value, str):
        if not _MICROS.fullmatch(value):
            msg = "an amount is a decimal string of micro-USDC without sign or leading zero"
            raise ValueError(msg)
        return int(value)
    return value


MicroUsdc = Annotated[
    int, Field(strict=True, ge=0), BeforeValidator(_micros_from_wire), PlainSerializer(str)
]
"""Integer micro-USDC in Python, a decimal string in the signed bytes."""

Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{40}$")]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{3,8}:[A-Za-z0-9_-]{1,32}:\S{1,64}$")]
ChainRef = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{3,8}:[A-Za-z0-9_-]{1,32}$")]
TxHash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ContentId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Signature = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{130}$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def new_order_id() -> OrderId:
    """Return a fresh id; it is also the bearer secret of the order, so it is random."""
    return OrderId(f"ivxp-{uuid4()}")


def is_order_id(text: str) -> bool:
    """Whether the text has the protocol's form of an order id."""
    return _ORDER_ID.fullmatch(text) is not None


def new_content_id() -> str:
    """Return a fresh id for one content row: the moment in six bytes, then ten random ones.

    Nothing is judged by that moment. It puts the ids of one batch side by side in the index, so
    that a commit touches the same few pages of it however large the ledger is.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def order_stream(order_id: str) -> str:
    """Return the stream name of an order."""
    return f"order/{order_id}"


def order_of_stream(stream: str) -> OrderId:
    """Return the order id that a stream name holds; the caller knows that it is an order's."""
    return OrderId(stream.removeprefix("order/"))


def is_order(stream: str) -> bool:
    """Whether a stream is an order's."""
    return stream.startswith("order/")


def cursor_stream(party: str, name: str) -> str:
    """Return the stream name of a party's cursor."""
    return f"cursor/{party}/{name}"


def is_cursor(stream: str) -> bool:
    """Whether a stream is a cursor's: its newest event alone says where it stands."""
    return stream.startswith("cursor/")


def cursor_of_stream(stream: str) -> tuple[str, str]:
    """Return the party and the name in the stream name of a cursor."""
    party, _, name = stream.removeprefix("cursor/").partition("/")
    return party, name


def agent_stream(agent: str) -> str:
    """Return the stream name of an agent of the marketplace."""
    return f"agent/{agent}"


def is_agent(stream: str) -> bool:
    """Whether a stream is an agent's."""
    return stream.startswith("agent/")


def conversation_stream(conversation: str) -> str:
    """Return the stream name of a conversation."""
    return f"conversation/{conversation}"


def is_conversation(stream: str) -> bool:
    """Whether a stream is a conversation's."""
    return stream.startswith("conversation/")


def name_in(stream: str) -> str:
    """Return what stands after the first slash of a stream's name."""
    return stream.partition("/")[2]


def stream_key(stream: str) -> str:
    """Return the hex key a stream is stored under: the order's own UUID, else uuid5 of its name."""
    order_id = stream.removeprefix("order/")
    if order_id is not stream and _ORDER_ID.fullmatch(order_id):
        return order_id[5:].replace("-", "")
    return uuid5(STREAM_NAMESPACE, stream).hex


def parse_address(text: str) -> str:
    """Return an EVM address in lower case, or raise `InvalidInput`."""
    if not _ADDRESS.fullmatch(text):
        msg = "an address is 0x and 40 hexadecimal digits"
        raise InvalidInput(msg)
    return text.lower()


def parse_tx_hash(text: str) -> str:
    """Return a transaction hash in lower case, or raise `InvalidInput`."""
    if not _TX_HASH.fullmatch(text):
        msg = "a transaction hash is 0x and 64 hexadecimal digits"
        raise InvalidInput(msg)
    return text.lower()


def parse_digest(text: str) -> str:
    """Return a SHA-256 digest as bare lower-case hex; `sha256:` and `0x` prefixes are accepted."""
    match = _DIGEST.fullmatch(text)
    if not match:
        msg = "a content hash is 64 hexadecimal digits, bare or after 'sha256:' or '0x'"
        raise InvalidInput(msg)
    return match[1].lower()


def evm_account(chain_id: int, address: str) -> str:
    """Return the CAIP-10 account of an EVM address."""
    return f"eip155:{chain_id}:{address.lower()}"


def address_of(account: str) -> str:
    """Return the address part of a CAIP-10 account."""
    return account.rsplit(":", 1)[1]


def micros_of_usdc(amount: Decimal | int | str) -> int:
    """Return micro-USDC of a USDC amount, or raise `InvalidInput` if it is finer than a micro."""
    try:
        micros = Decimal(amount) * 1_000_000
        whole = int(micros)
    except (InvalidOperation, ValueError, OverflowError) as error:
        msg = "not an amount of USDC"
        raise InvalidInput(msg) from error
    if whole != micros or whole < 0:
        msg = "an amount of USDC has at most 6 decimals and no sign"
        raise InvalidInput(msg)
    return whole


def usdc_number(micros: int) -> int | float:
    """Return the JSON number that the protocol shows for an amount of micro-USDC."""
    return micros // 1_000_000 if micros % 1_000_000 == 0 else micros / 1_000_000


def iso_of(at: UnixMs) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.mmmZ`, the only form of time in signed bytes."""
    return f"{_iso_second(at // 1000)}.{at % 1000:03d}Z"


@lru_cache(maxsize=64)
def _iso_second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def iso_of_seconds(at: int) -> str:
    """Return the ISO form of Unix seconds."""
    return iso_of(UnixMs(at * 1000))


def parse_iso(text: str) -> UnixMs:
    """Return Unix milliseconds of a protocol timestamp, or raise `InvalidInput`.

    The accepted form is the one that every client of the protocol sends: a `T`, optional
    fraction of 1 to 9 digits, and `Z` or a numeric offset.
    """
    if not _ISO.fullmatch(text):
        msg = "a timestamp is ISO 8601 with a time zone"
        raise InvalidInput(msg, code="INVALID_TIMESTAMP")
    try:
        delta = datetime.fromisoformat(text) - _EPOCH
    except (ValueError, OverflowError) as error:
        msg = "the timestamp names no moment"
        raise InvalidInput(msg, code="INVALID_TIMESTAMP") from error
    return UnixMs(delta // timedelta(milliseconds=1))
