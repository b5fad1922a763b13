"""Reads the token's Transfer logs: to the payment address, from it, and what names their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ledger.chain_answers import Block, Log, Receipt, unavailable
from ledger.event import Transfer

TRANSFER_TOPIC: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
AUTHORIZATION_TOPIC: Final = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
TOPICS: Final = 3
_ADDRESS_PADDING: Final = "0x" + "0" * 24
_WORD_LENGTH: Final = 2 + 64
# An amount has at most 30 decimal digits where it is written down.
_MAX_AMOUNT: Final = 10**30


class Way(Enum):
    """Which transfers are looked for, as the payment address sees them."""

    IN = auto()
    OUT = auto()


@dataclass(frozen=True, slots=True)
class Moved:
    """What one log says was moved."""

    sender: str
    recipient: str
    amount: int


class TransferLogs:
    """The transfers of one token to and from one address."""

    def __init__(self, *, chain: str, token: str, payment_address: str) -> None:
        self._chain = chain
        self._token = token
        self._payment_address = payment_address

    def filter(self, way: Way) -> dict[str, object]:
        """Return what `eth_getLogs` is to look for, but for the blocks."""
        ours = _ADDRESS_PADDING + self._payment_address.removeprefix("0x")
        ends = [None, ours] if way is Way.IN else [ours, None]
        return {"address": self._token, "topics": [TRANSFER_TOPIC, *ends]}

    def of_receipt(self, receipt: Receipt, block: Block, way: Way) -> Iterator[Transfer]:
        """Return the receipt's transfers; a list with a gap is no receipt."""
        for ordinal, log in enumerate(receipt.logs):
            # A list that lacks a log would give the logs after it ordinals of other transfers.
            if log.log_index != receipt.logs[0].log_index + ordinal:
                raise unavailable("the receipt's logs are not in a row", "malformed")
            if (moved := self.moved(log, way)) is None:
                continue
            yield Transfer(
                chain=self._chain,
                tx_hash=receipt.transaction_hash,
                ordinal=ordinal,
                log_index=log.log_index,
                block_number=block.number,
                block_hash=block.hash,
                block_time=block.timestamp,
                sender=moved.sender,
                recipient=moved.recipient,
                amount=moved.amount,
            )

    def nonce_of(self, receipt: Receipt, transfer: Transfer) -> str | None:
        """Return the nonce of the authorization (EIP-3009) that made a transfer, if one did.

        The token writes it into the log right before the Transfer.
        """
        log = receipt.logs[transfer.ordinal - 1] if transfer.ordinal else None
        if log is None or log.address != self._token or len(log.topics) != TOPICS:
            return None
        topic, authorizer, nonce = log.topics
        by_sender = authorizer == _ADDRESS_PADDING + transfer.sender.removeprefix("0x")
        return nonce if topic == AUTHORIZATION_TOPIC and by_sender else None

    def moved(self, log: Log, way: Way) -> Moved | None:
        """Return what a log moved the asked way, or None if it shows no such thing.

        Anybody can make the token emit a Transfer of zero between two strangers: it is nothing.
        """
        if log.removed or log.address != self._token:
            return None
        # Four topics are a transfer of a single item, which has the same first topic.
        if len(log.topics) != TOPICS or log.topics[0] != TRANSFER_TOPIC:
            return None
        sender, recipient = _address(log.topics[1]), _address(log.topics[2])
        ours, theirs = (recipient, sender) if way is Way.IN else (sender, recipient)
        if ours != self._payment_address or theirs == ours:
            return None
        if len(log.data) != _WORD_LENGTH or (amount := int(log.data, 16)) >= _MAX_AMOUNT:
            raise unavailable("a Transfer log does not hold an amount", "malformed")
        return Moved(sender, recipient, amount) if amount else None


def _address(topic: str) -> str:
    if not topic.startswith(_ADDRESS_PADDING):
        raise unavailable("a Transfer log does not name an address", "malformed")
    return "0x" + topic.removeprefix(_ADDRESS_PADDING)
