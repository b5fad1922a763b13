"""Solana wallets of tests, and the transfers that they sign, byte by byte as the chain takes them.

Written from the layout of a transaction alone, with the keys of `cryptography`: so what reads one
here is not checked against itself.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Literal

import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.deal_events import PaymentAuthorized
from ledger.event import ClientText
from ledger.evidence_verify.basics import Bad
from ledger.evidence_verify.curves import _point
from ledger.wallets import SOLANA_CHAINS, SOLANA_USDC, stored_ed25519

SOLANA: Final = SOLANA_CHAINS["devnet"]
MINT: Final = SOLANA_USDC["devnet"]
TOKEN_PROGRAM: Final = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
ATA_PROGRAM: Final = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
SYSTEM_PROGRAM: Final = "1" * 32
COMPUTE_BUDGET: Final = "ComputeBudget111111111111111111111111111111"
MEMO: Final = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"

USDC_DECIMALS: Final = 6
TRANSFER: Final = 3
TRANSFER_CHECKED: Final = 12
SYSTEM_TRANSFER: Final = 2
ADVANCE_NONCE: Final = 4


class SolanaKey:
    """A Solana wallet, the same for the same name."""

    def __init__(self, name: str) -> None:
        self._private: Final = Ed25519PrivateKey.from_private_bytes(
            sha256(f"solana {name}".encode()).digest()
        )
        self.public: Final = self._private.public_key().public_bytes_raw()
        self.address: Final = base58.b58encode(self.public).decode()
        self.account: Final = f"{SOLANA}:{self.address}"

    def raw(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def sign(self, text: str) -> ClientText:
        signature = stored_ed25519(self.raw(text.encode()))
        return ClientText(text=text, signature=signature, signer=self.address)

    def text(self, text: str) -> ClientText:
        return self.sign(text)


def token_account(owner: str, mint: str = MINT) -> str:
    """Return the associated token account: the first derived address that is no key."""
    seeds = b"".join(map(base58.b58decode, (owner, TOKEN_PROGRAM, mint)))
    for bump in range(255, -1, -1):
        tail = bytes([bump]) + base58.b58decode(ATA_PROGRAM) + b"ProgramDerivedAddress"
        found = sha256(seeds + tail).digest()
        try:
            _point(found)
        except Bad:
            return base58.b58encode(found).decode()
    raise AssertionError(owner)


@dataclass(frozen=True)
class Instruction:
    """What a program is told; `accounts` are places in the transaction's list of keys."""

    program: str
    accounts: Sequence[int]
    data: bytes


@dataclass(frozen=True)
class Payment:
    """One transfer of tokens: change a field, and it is another one. `build` signs it."""

    payer: SolanaKey
    recipient: str
    amount: int
    mint: str = MINT
    destination: str = ""
    source: str = ""
    checked: bool = True
    blockhash: bytes = b"\x07" * 32
    version: int | None = None
    more: Sequence[Instruction] = ()
    repeat: int = 1

    def but(self, **changes: object) -> Payment:
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def to(self) -> str:
        return self.destination or token_account(self.recipient, self.mint)

    @property
    def of(self) -> str:
        return self.source or token_account(self.payer.address, self.mint)

    def message(self) -> bytes:
        """Return the bytes that are signed: the payer, two accounts, then what is only read."""
        read_only = [self.mint, TOKEN_PROGRAM]
        read_only += [each.program for each in self.more if each.program not in read_only]
        keys = [self.payer.address, self.of, self.to, *read_only]
        told = [self._transfer()] * self.repeat + list(self.more)
        body = bytes([1, 0, len(read_only)]) + _length(len(keys))
        body += b"".join(map(base58.b58decode, keys)) + self.blockhash + _length(len(told))
        for each in told:
            body += bytes([keys.index(each.program)])
            body += _length(len(each.accounts)) + bytes(each.accounts)
            body += _length(len(each.data)) + each.data
        if self.version is None:
            return body
        return bytes([0x80 | self.version]) + body + _length(0)

    def signature(self) -> str:
        return base58.b58encode(self.payer.raw(self.message())).decode()

    def build(self) -> str:
        """Return the signed transaction in base64."""
        message = self.message()
        return b64encode(_length(1) + self.payer.raw(message) + message).decode()

    def _transfer(self) -> Instruction:
        amount = self.amount.to_bytes(8, "little")
        if self.checked:
            data = bytes([TRANSFER_CHECKED]) + amount + bytes([USDC_DECIMALS])
            return Instruction(TOKEN_PROGRAM, (1, 3, 2, 0), data)
        return Instruction(TOKEN_PROGRAM, (1, 2, 0), bytes([TRANSFER]) + amount)


def authorized(
    payment: Payment,
    *,
    bps: int,
    due: int | None = None,
    method: Literal["USDC", "ATHR"] = "USDC",
    awaits: Literal["nothing", "settlement"] = "nothing",
) -> PaymentAuthorized:
    """Return what is recorded of a payment that was handed over."""
    commission = payment.amount * bps // 10_000
    return PaymentAuthorized(
        chain=SOLANA,
        mint=payment.mint,
        recipient=payment.recipient,
        source=payment.of,
        destination=payment.to,
        payer=payment.payer.address,
        named_payer=payment.payer.address,
        signature=payment.signature(),
        transaction=payment.build(),
        method=method,
        due=payment.amount if due is None else due,
        amount=payment.amount,
        commission=commission,
        payout=payment.amount - commission,
        grade="signed",
        awaits=awaits,
        proven="token",
    )


def _length(number: int) -> bytes:
    """Return a count as the chain writes it: seven bits a byte, the low ones first."""
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])
