"""A wallet that signs texts: what every signed act of a client needs, and nothing of money."""

from __future__ import annotations

from typing import Final, Protocol

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount


class Wallet(Protocol):
    """Whatever can sign a text with EIP-191 for one address."""

    @property
    def address(self) -> str: ...

    def sign_text(self, text: str) -> str: ...


class LocalWallet:
    """A private key in this process. It never appears in its own `repr`."""

    def __init__(self, private_key: str | bytes) -> None:
        self.account: Final[LocalAccount] = Account.from_key(private_key)

    @property
    def address(self) -> str:
        """The address in mixed case, as wallets write it."""
        return str(self.account.address)

    def sign_text(self, text: str) -> str:
        """Return the EIP-191 signature of a text: `0x` and 130 digits."""
        signed = self.account.sign_message(encode_defunct(text=text))
        return "0x" + bytes(signed.signature).hex()
