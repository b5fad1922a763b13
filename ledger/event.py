"""What every event class is, and the parts that several kinds share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ledger.values import Address, ChainRef, Digest, MicroUsdc, TxHash

Actor = Literal["provider", "client", "system"]
Finality = Literal["sealed", "safe", "finalized"]
UnixSeconds = Annotated[int, Field(ge=0, lt=2**40)]


class Part(BaseModel):
    """A frozen, strict, closed piece of an event's body."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Event(Part):
    """A recorded fact. `kind` is its wire name, `actor` the party whose act it records.

    A class never changes its fields once released: a changed body is a new kind, and old kinds
    are read for ever.
    """

    kind: ClassVar[str]
    actor: ClassVar[Actor] = "provider"

    def body(self) -> dict[str, object]:
        """Return the body as JSON values; absent options are left out, never null."""
        return self.model_dump(mode="json", exclude_none=True)


class ClientText(Part):
    """A text that a party signed, byte for byte, and whose signature it is.

    An EVM wallet signs with EIP-191, and the signature recovers to `signer`. A Solana wallet signs
    the text's UTF-8 bytes with Ed25519; its signature begins with the scheme's name.
    """

    text: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    signature: Annotated[
        str, StringConstraints(pattern=r"^(?:0x[0-9a-f]{130}|ed25519:[0-9a-f]{128})$")
    ]
    signer: Annotated[
        str, StringConstraints(pattern=r"^(?:0x[0-9a-f]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})$")
    ]


class Transfer(Part):
    """One Transfer log of the token contract to the payment address, as a canonical block shows it.

    `ordinal` is the log's 0-based index inside `receipt.logs`, which identifies it for ever;
    `log_index` counts over the block and may shift in a reorganisation, so it is evidence only.
    """

    chain: ChainRef
    tx_hash: TxHash
    ordinal: Annotated[int, Field(ge=0, lt=2**31)]
    log_index: Annotated[int, Field(ge=0, lt=2**31)]
    block_number: Annotated[int, Field(ge=0, lt=2**53)]
    block_hash: TxHash
    block_time: UnixSeconds
    sender: Address
    recipient: Address
    amount: MicroUsdc

    @property
    def key(self) -> tuple[str, str, int]:
        """The claim key: one transfer pays once."""
        return (self.chain, self.tx_hash, self.ordinal)


MAX_TRANSFERS: Final = 64
"""Transfers in one event; keeps the entry far below its limit."""

Transfers = Annotated[
    tuple[Transfer, ...], Field(min_length=1, max_length=MAX_TRANSFERS, strict=False)
]


class TransferKey(Part):
    """Names a transfer that an earlier event of the order describes."""

    chain: ChainRef
    tx_hash: TxHash
    ordinal: Annotated[int, Field(ge=0, lt=2**31)]

    @property
    def key(self) -> tuple[str, str, int]:
        """The claim key of the transfer."""
        return (self.chain, self.tx_hash, self.ordinal)


TransferKeys = Annotated[
    tuple[TransferKey, ...], Field(min_length=1, max_length=MAX_TRANSFERS, strict=False)
]


class TreeHead(Part):
    """Size and root of a tree."""

    size: Annotated[int, Field(ge=0, lt=2**53)]
    root: Digest
