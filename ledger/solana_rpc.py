"""Asks one Solana node over JSON-RPC: submit a signed transaction, and what became of it.

A node that is silent, behind or talks nonsense raises `ChainUnavailable`: the outcome is unknown.
No answer of this module alone says that a transaction failed, but `Failed` and `chance_to_land`.
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

BLOCKHASH_SLOTS: Final = 2 * LAG_SLOTS
"""How old a usable blockhash may be: 150 blocks, and there are slots without one."""

Chance = Literal["open", "none", "no_history"]
"""`no_history`: the blocks that the transaction may be in are not there to be looked into."""

_PREFLIGHT_FAILED: Final = -32002
_BAD_SIGNATURE: Final = -32003
_NO_SUCH_METHOD: Final = -32601
_OF_THE_NODE: Final = frozenset(
    {
        429,
        -32700,  # could not read the request
        -32600,  # takes no such request
        _NO_SUCH_METHOD,
        -32603,  # internal
        -32001,  # block cleaned up
        -32004,  # block not there
        -32005,  # behind
        -32007,  # slot skipped
        -32008,  # no snapshot
        -32009,  # slot not in the archive
        -32010,  # index
        -32011,  # no history
        -32012,  # scan
        -32014,  # block not there yet
        -32016,  # slot not reached
        -32017,  # rewards are paid
        -32018,  # no epoch boundary
        -32019,  # archive away
    }
)
"""Errors that say something about the node, and nothing about the transaction it was given."""
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
        refused = self._refused(error)
        return Submitted(signature) if refused.reason == _ALREADY_THERE else refused

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
            case [{"slot": int(slot), "confirmations": int() | None as votes, "err": error}]:
                # No word for it; a block that is not voted on any more is final.
                return self._landed(at, slot, "finalized" if votes is None else "processed", error)
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
        slot = await self._node.result_of("getSlot", [{"commitment": commitment}])
        if type(slot) is not int:
            raise self._node.nonsense("getSlot")
        return slot

    async def first_block(self) -> int | None:
        """Return the oldest slot whose block the node still has, or None if it does not tell."""
        slot = await self._told("getFirstAvailableBlock")
        if slot is not None and type(slot) is not int:
            raise self._node.nonsense("getFirstAvailableBlock")
        return slot

    async def genesis_hash(self) -> str | None:
        """Return the hash that tells the networks apart, or None if the node does not tell."""
        result = await self._told("getGenesisHash")
        if result is not None and (not isinstance(result, str) or not _is_key(result)):
            raise self._node.nonsense("getGenesisHash")
        return result

    async def chain(self) -> str | None:
        """Return the CAIP-2 name of the node's network, or None if the node does not tell."""
        genesis = await self.genesis_hash()
        return f"solana:{genesis[:_CHAIN_NAME]}" if genesis is not None else None

    async def chance_to_land(self, signature: str, blockhash: str, *, seen_at_slot: int) -> Chance:
        """Return `none` if it is proven that a transaction is in no block and can get into none.

        `seen_at_slot` is what `slot()` said when the transaction was first seen: its blockhash is
        not younger, so a final block well after that knows it, unless it is too old for good.
        `open` means that it is not proven yet. A failed transaction landed; ask for its status.
        """
        # The order matters: only a look after the blockhash's end misses nothing that lands.
        valid, expired_at = await self.is_blockhash_valid(blockhash)
        if valid or expired_at < seen_at_slot + LAG_SLOTS:
            return "open"
        status = await self.status(signature)
        # A node that is behind the one that spoke of the blockhash has not seen it all.
        if not isinstance(status, Unknown) or status.failing or status.slot < expired_at:
            return "open"
        # A node that does not have the old blocks knows nothing of what is in them. Asked last,
        # as nodes drop blocks all the time. The payer may have sent it before it was seen here.
        first = await self.first_block()
        covered = first is not None and first <= max(0, seen_at_slot - BLOCKHASH_SLOTS)
        return "none" if covered else "no_history"

    async def _told(self, method: str) -> object:
        """Return what the node says, or None if it has no such method: some serve a few alone."""
        result, error = await self._node.call(method, [])
        if error is None:
            if result is None:
                raise self._node.nonsense(method)
            return result
        if error.get("code") == _NO_SUCH_METHOD:
            return None
        raise self._node.refusal(error)

    def _refused(self, error: Mapping[str, object]) -> NotSubmitted:
        """Return why a transaction was not taken; raises what is not about the transaction."""
        code, why = error.get("code"), _why(error)
        if type(code) is not int or code in _OF_THE_NODE:
            raise self._node.refusal(error)
        if code == _PREFLIGHT_FAILED and why is not None:
            return NotSubmitted(_text(why), _cause(why))
        if code == _BAD_SIGNATURE:
            return NotSubmitted("SignatureFailure", "other")
        told = self._node.refusal(error).details["rpc_message"]
        return NotSubmitted(_text(f"error {code}: {told}"), "other")

    def _landed(self, at: int, slot: int, word: str, error: object) -> TransactionStatus:
        finality = _FINALITY.get(word)
        if finality is None:
            raise self._node.nonsense("getSignatureStatuses")
        if error is None:
            return Landed(finality, slot)
        # Another fork may win until then, and the transaction succeed on it.
        if finality != "finalized":
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
