"""What every client shares: a wallet with real USDC, and the ways in which they write a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from scripts.devchain import DevChain, encode_call

MICROS = 1_000_000

Clock = Callable[[], datetime]
Pause = Callable[[float], Awaitable[None]]
"""Waits for so many seconds, or for what a test puts in their place."""


class InsufficientBalance(Exception):
    """The wallet holds less than it is asked to pay."""


def utc_clock() -> datetime:
    return datetime.now(UTC)


def iso_millis(now: datetime) -> str:
    """Write a time as `Date.toISOString` does."""
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_aware(now: datetime) -> str:
    """Write a time as `isoformat` of an aware UTC value does."""
    return now.isoformat()


def iso_naive_z(now: datetime) -> str:
    """Write a time as older Python does: without a zone, and a `Z` put behind it."""
    return now.replace(tzinfo=None).isoformat() + "Z"


def epoch_millis(now: datetime) -> int:
    """Write a time as `Date.now` does."""
    return int(now.timestamp() * 1000)


def micros_of(price_usdc: float) -> int:
    """Return micro-USDC; the protocol's amounts have six decimals."""
    return round(price_usdc * MICROS)


@dataclass(frozen=True)
class Wallet:
    """One account of one chain. Nothing is pretended: it signs, and its transfers are mined."""

    chain: DevChain
    account: LocalAccount

    @property
    def address(self) -> str:
        """The address in mixed case, as wallets write it."""
        return str(self.account.address)

    def sign(self, text: str) -> str:
        """Return the EIP-191 signature of a text: `0x` and 130 digits."""
        return "0x" + self.sign_bare(text)

    def sign_bare(self, text: str) -> str:
        """Return the signature as newer hexbytes writes it: 130 digits."""
        signed = self.account.sign_message(encode_defunct(text=text))
        return bytes(signed.signature).hex()

    async def pay(self, to: str, micros: int) -> str:
        """Transfer USDC, wait until it is mined, and return the transaction's hash."""
        return await asyncio.to_thread(self._transfer, to, micros)

    async def approve_and_pay(self, to: str, micros: int) -> str:
        """Let the recipient spend the amount, then transfer it, as the hub's page does."""
        approve = encode_call("usdc_like", "approve", to, micros)
        await asyncio.to_thread(
            self.chain.send, self.account.key, to=self.chain.usdc_address, data=approve
        )
        return await asyncio.to_thread(self._transfer, to, micros)

    def _transfer(self, to: str, micros: int) -> str:
        if self.chain.balance_micros(self.address) < micros:
            raise InsufficientBalance(self.address)
        return self.chain.transfer(self.account.key, to, micros)


def signer_of(text: str, signature: str) -> str:
    """Return the address that signed a text, in mixed case."""
    return str(Account.recover_message(encode_defunct(text=text), signature=signature))
