"""The events of the log itself: its genesis, its chain, its keys and its end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from ledger.event import Actor, ClientText, Event, Part, Transfers, TreeHead
from ledger.values import Account, Address, ChainRef, Digest, ShortText, TxHash

Origin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,160}$")]
"""Short enough that a signed note of any size fits one disk sector, twice the origin included."""
VerifierKey = Annotated[str, StringConstraints(pattern=r"^\S+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$")]


class Continues(Part):
    """The closed log that this one carries on."""

    origin: Origin
    head: TreeHead


class LogOpened(Event):
    """The genesis: what this log is, and the keys that may speak for it.

    `recovery` is the only key that can revoke a stolen wallet or close the log.
    """

    kind: ClassVar[str] = "log_opened"
    origin: Origin
    network: ShortText
    log_key: VerifierKey
    wallet: Address
    payment_address: Account
    recovery: Address
    continues: Continues | None = None
    dev_chain: bool


class ChainBound(Event):
    """The chain that payments are read from, named by its genesis block at first contact.

    `block_number` is the newest block at that moment: transfers are counted from it on.
    """

    kind: ClassVar[str] = "chain_bound"
    actor: ClassVar[Actor] = "system"
    chain: ChainRef
    genesis_hash: TxHash
    token: Address
    block_number: Annotated[int, Field(ge=0, lt=2**53)]

    def is_same_chain(self, other: ChainBound) -> bool:
        """Whether both name one chain and token; when each first met it does not matter."""
        return (self.chain, self.genesis_hash, self.token) == (
            other.chain,
            other.genesis_hash,
            other.token,
        )


class KeyAdded(Event):
    """A key may speak for the log from the next position on."""

    kind: ClassVar[str] = "key_added"
    purpose: Literal["log", "wallet", "payment"]
    key: ShortText
    possession: ClientText | None = None


class KeyRevoked(Event):
    """A key may not speak after `last_position`; a stolen wallet needs the recovery key's text."""

    kind: ClassVar[str] = "key_revoked"
    purpose: Literal["log", "wallet", "payment"]
    key: ShortText
    last_position: int
    recovery: ClientText | None = None


class PolicySet(Event):
    """The digest of a published policy document."""

    kind: ClassVar[str] = "policy_set"
    name: ShortText
    digest: Digest


class LogClosed(Event):
    """Nothing may follow. The recovery key signs it."""

    kind: ClassVar[str] = "log_closed"
    reason: ShortText
    recovery: ClientText


class PaymentUnattributed(Event):
    """Money arrived that no order can be named for. It claims nothing."""

    kind: ClassVar[str] = "payment_unattributed"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers


KEY_KINDS: Final = tuple(
    kind.kind for kind in (LogOpened, KeyAdded, KeyRevoked, PolicySet, LogClosed)
)
"""The events that say which keys and policies hold."""

LogEvent = (
    LogOpened | ChainBound | KeyAdded | KeyRevoked | PolicySet | LogClosed | PaymentUnattributed
)
