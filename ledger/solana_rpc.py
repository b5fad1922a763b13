"""Asks one Solana node over JSON-RPC: submit a signed transaction, and what became of it.

A node that is silent, behind or talks nonsense raises `ChainUnavailable`: the outcome is unknown.
No answer of this module alone says that a transaction failed, but `Failed` and `can_never_land`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
import orjson

from ledger.rpc import TIMEOUT_S
from ledger.solana_node import SolanaNode
from ledger.solana_wire import KEY_BYTES, key_of, signature_of

Commitment = Literal["processed", "confirmed", "finalized"]

LAG_SLOTS: Final = 150
"""How far a healthy node may be behind the newest slot; nodes call themselves unhealthy before."""

_PREFLIGHT_FAILED: Final = -32002
_BAD_SIGNATURE: Final = -32003
_ALREADY_THERE: Final = "AlreadyProcessed"
_OUT_OF_BLOCKHASH: Final = "BlockhashNotFound"
_NO_FUNDS: Final = frozenset(
    {"AccountNotFound", "InsufficientFundsForFee", "InsufficientFundsForRent"}
)
# The token program's and the system program's own number for too little on the account.
_TOO_LITTLE: Final = 1
_FINALITY: Final[dict[str, Commitment]] = {
    "processed": "processed",
    "confirmed": "confirmed",
    "finalized": "finalized",
}
_MAX_REASON: Final = 200
_CHAIN_NAME: Final = 32
MAX_ANSWER_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Submitted:
    """The node took the transaction, or had it already. Whether it lands is not said."""

    signature: str


@dataclass(frozen=True, slots=True)
class NotSubmitted:
    """The node tried the transaction and did not pass it on.

    Another node may have, and this one may be behind: it is not proven that it never lands.
    """

    reason: str
    cause: Literal["funds", "blockhash", "other"]


SendOutcome = Submitted | NotSubmitted


@dataclass(frozen=True, slots=True)
class Unknown:
    """The node knows nothing of the transaction that counts, as of `slot`."""

    slot: int
    failing: str | None = None
    """Why it failed in a block that may yet be dropped; that is no failure."""


@dataclass(frozen=True, slots=True)
class Landed:
    """The transfer is in a block, at this level of certainty."""

    finality: Commitment
    slot: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A block that stays says that the transaction failed: nothing moved, and nothing will."""

    reason: str
    slot: int


TransactionStatus = Unknown | Landed | Failed


class SolanaRpc:
    """One node. Every call may be repeated: a signed transaction takes effect at most once."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._node = SolanaNode(
            url, session, timeout_s=timeout_s, max_answer_bytes=MAX_ANSWER_BYTES
        )

    def __repr__(self) -> str:
        return f"SolanaRpc({self._node.name})"

    async def send(self, transaction_base64: str) -> SendOutcome:
        """Submit a signed transaction; an error of the node's own is `ChainUnavailable`."""
        signature = signature_of(transaction_base64)
        # The newest block knows the youngest blockhashes, so it refuses the fewest by mistake.
        options = {"encoding": "base64", "skipPreflight": False, "preflightCommitment": "processed"}
        result, error = await self._node.call("sendTransaction", [transaction_base64, options])
        if error is None:
            if result != signature:
                raise self._node.nonsense("sendTransaction")
            return Submitted(signature)
        code, why = error.get("code"), _why(error)
        if code == _PREFLIGHT_FAILED and why is not None:
            if why == _ALREADY_THERE:
                return Submitted(signature)
            return NotSubmitted(_text(why), _cause(why))
        if code == _BAD_SIGNATURE:
            return NotSubmitted("SignatureFailure", "other")
        raise self._node.refusal(error)

    async def status(self, signature: str) -> TransactionStatus:
        """Return what became of a transaction, however long ago it landed."""
        options = {"searchTransactionHistory": True}
        result = await self._node.result_of("getSignatureStatuses", [[signature], options])
        at, value = self._node.with_slot("getSignatureStatuses", result)
        match value:
            case [None]:
                return Unknown(at)
            case [{"slot": int(slot), "confirmationStatus": str(word), **rest}]:
                return self._landed(at, slot, word, rest.get("err"))
            case _:
                raise self._node.nonsense("getSignatureStatuses")

    async def is_blockhash_valid(
        self, blockhash: str, commitment: Commitment = "finalized"
    ) -> tuple[bool, int]:
        """Return whether a transaction with this blockhash can be taken, and as of which slot.

        No is also the answer to a blockhash that is younger than that slot.
        """
        options = {"commitment": commitment}
        result = await self._node.result_of("isBlockhashValid", [blockhash, options])
        at, valid = self._node.with_slot("isBlockhashValid", result)
        if not isinstance(valid, bool):
            raise self._node.nonsense("isBlockhashValid")
        return valid, at

    async def slot(self, commitment: Commitment = "processed") -> int:
        """Return the newest slot of that commitment."""
        result = await self._node.result_of("getSlot", [{"commitment": commitment}])
        if type(result) is not int:
            raise self._node.nonsense("getSlot")
        return result

    async def genesis_hash(self) -> str:
        """Return the hash that tells the networks apart."""
        result = await self._node.result_of("getGenesisHash", [])
        if not isinstance(result, str) or not _is_key(result):
            raise self._node.nonsense("getGenesisHash")
        return result

    async def chain(self) -> str:
        """Return the CAIP-2 name of the node's network."""
        return f"solana:{(await self.genesis_hash())[:_CHAIN_NAME]}"

    async def can_never_land(self, signature: str, blockhash: str, *, seen_at_slot: int) -> bool:
        """Whether it is proven that the transaction is in no block and can get into none.

        `seen_at_slot` is what `slot()` said when the transaction was first seen: its blockhash is
        not younger, so a final block well after that knows it, unless it is too old for good.
        No means that it is not proven yet. A failed transaction landed; ask for its status.
        """
        # The order matters: only a look after the blockhash's end misses nothing that lands.
        valid, expired_at = await self.is_blockhash_valid(blockhash)
        if valid or expired_at < seen_at_slot + LAG_SLOTS:
            return False
        status = await self.status(signature)
        # A node that is behind the one that spoke of the blockhash has not seen it all.
        return isinstance(status, Unknown) and not status.failing and status.slot >= expired_at

    def _landed(self, at: int, slot: int, word: str, error: object) -> TransactionStatus:
        finality = _FINALITY.get(word)
        if finality is None:
            raise self._node.nonsense("getSignatureStatuses")
        if error is None:
            return Landed(finality, slot)
        if finality == "processed":
            return Unknown(at, failing=_text(error))
        return Failed(_text(error), slot)


def _why(error: Mapping[str, object]) -> object:
    """Return the `TransactionError` in the error of a preflight, or None."""
    data = error.get("data")
    return data.get("err") if isinstance(data, dict) else None


def _cause(why: object) -> Literal["funds", "blockhash", "other"]:
    match why:
        case str(word) if word == _OUT_OF_BLOCKHASH:
            return "blockhash"
        case str(word) if word in _NO_FUNDS:
            return "funds"
        case {"InsufficientFundsForRent": _}:
            return "funds"
        case {"InstructionError": [_, {"Custom": number}]} if number == _TOO_LITTLE:
            return "funds"
        case _:
            return "other"


def _text(why: object) -> str:
    """Return a `TransactionError` as a short text: the word itself, or compact JSON."""
    text = why if isinstance(why, str) else orjson.dumps(why).decode()
    return "".join(letter for letter in text if letter.isprintable())[:_MAX_REASON] or "unnamed"


def _is_key(text: str) -> bool:
    try:
        return len(key_of(text)) == KEY_BYTES
    except ValueError:
        return False
