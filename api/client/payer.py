"""Paying in USDC: a transfer that is signed first, kept, and sent as often as it takes.

A signed transaction has one nonce, so however often it is sent it moves money once. What asks a
node here never signs, and what signs never asks twice for the same purchase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from eth_utils.address import to_checksum_address

from api.client.errors import OutcomeUnknown, PaymentImpossible, PaymentRefused
from api.client.wallet import LocalWallet
from ledger.errors import ChainUnavailable
from ledger.rpc import RpcEndpoint

Fate = Literal["mined", "pending", "reverted", "unknown", "impossible"]
"""What the chain shows of a transaction. `impossible` is final, `unknown` is not."""

_SELECTOR: Final = "a9059cbb"
"""`transfer(address,uint256)` of ERC-20."""
_GAS_MARGIN: Final = 5
"""A fifth more than estimated: the balances may change until the transaction is mined."""
_QUESTIONS: Final = len(("chain id", "nonce", "block", "tip", "gas"))
_GAS: Final = _QUESTIONS - 1
_SUCCESS: Final = "0x1"


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a quote asks for."""

    chain_id: int
    token: str
    recipient: str
    micros: int


@dataclass(frozen=True, slots=True)
class SignedTransfer:
    """A signed transaction, not necessarily sent: `raw` are its bytes in hexadecimal."""

    payer: str
    nonce: int
    tx_hash: str
    raw: str


class Payer(Protocol):
    """Whoever can pay. `sign` sends nothing; `send` may be called again with the same transfer."""

    async def sign(self, transfer: Transfer) -> SignedTransfer: ...

    async def send(self, signed: SignedTransfer) -> None: ...

    async def look(self, signed: SignedTransfer) -> Fate: ...


class UsdcPayer:
    """Pays from a local key over one JSON-RPC endpoint, in an EIP-1559 transaction."""

    def __init__(self, endpoint: RpcEndpoint, wallet: LocalWallet) -> None:
        self._rpc = endpoint
        self._wallet = wallet

    async def sign(self, transfer: Transfer) -> SignedTransfer:
        """Return a signed transfer, or raise `PaymentRefused` if this wallet cannot pay it."""
        payer = self._wallet.address
        data = f"0x{_SELECTOR}{transfer.recipient[2:].lower():0>64}{transfer.micros:064x}"
        call = {"from": payer, "to": transfer.token, "data": data}
        answers = await self._rpc.batch(
            [
                ("eth_chainId", []),
                ("eth_getTransactionCount", [payer, "pending"]),
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_maxPriorityFeePerGas", []),
                ("eth_estimateGas", [call]),
            ],
            optional={_GAS},
        )
        chain_id, nonce, block, tip, gas = answers
        if _number(chain_id) != transfer.chain_id:
            raise PaymentRefused(f"the node is of chain {_number(chain_id)}, not the quote's")
        if gas is None:
            raise PaymentRefused("the transfer would fail: too little USDC, or too little for gas")
        base_fee = _number(block.get("baseFeePerGas") if isinstance(block, Mapping) else None)
        transaction: dict[str, Any] = {
            "chainId": transfer.chain_id,
            "nonce": _number(nonce),
            "to": to_checksum_address(transfer.token),
            "data": data,
            "value": 0,
            "gas": _number(gas) * (_GAS_MARGIN + 1) // _GAS_MARGIN,
            # Twice the present base fee holds for six full blocks in a row.
            "maxFeePerGas": 2 * base_fee + _number(tip),
            "maxPriorityFeePerGas": _number(tip),
        }
        signed = self._wallet.account.sign_transaction(transaction)
        return SignedTransfer(
            payer=payer.lower(),
            nonce=_number(nonce),
            tx_hash="0x" + bytes(signed.hash).hex(),
            raw="0x" + bytes(signed.raw_transaction).hex(),
        )

    async def send(self, signed: SignedTransfer) -> None:
        """Hand the transaction to the node; return once the node has it.

        A node refuses what it has already, so a refusal says nothing before the node was asked.
        """
        try:
            await self._rpc.batch([("eth_sendRawTransaction", [signed.raw])])
        except ChainUnavailable as error:
            fate = await self.look(signed)
            if fate == "impossible":
                raise PaymentImpossible("another transaction used the nonce") from error
            if fate == "unknown":
                raise OutcomeUnknown(f"the node did not take it: {error.message}") from error

    async def look(self, signed: SignedTransfer) -> Fate:
        """Return what the node knows of a transaction; raise `OutcomeUnknown` if it is silent."""
        try:
            receipt, known, used = await self._rpc.batch(
                [
                    ("eth_getTransactionReceipt", [signed.tx_hash]),
                    ("eth_getTransactionByHash", [signed.tx_hash]),
                    ("eth_getTransactionCount", [signed.payer, "finalized"]),
                ],
                optional={2},
            )
        except ChainUnavailable as error:
            raise OutcomeUnknown(f"the node is silent: {error.message}") from error
        if isinstance(receipt, Mapping) and receipt.get("status") == _SUCCESS:
            return "mined"
        if receipt is None and known is not None:
            return "pending"
        # Its nonce is used up in blocks that no reorganisation takes back, and not by a success.
        if used is not None and _number(used) > signed.nonce:
            return "impossible"
        return "reverted" if receipt is not None else "unknown"


def _number(value: object) -> int:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise PaymentRefused("the node's answer holds no number where there has to be one")
