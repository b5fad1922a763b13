"""Marketplace wallets: Solana and EVM addresses and bare words, and what an Ed25519 one signed.

A wallet is one word with one spelling: an EVM address in lower case, a Solana address (the base58
of 32 bytes) as it is, or any other word. Nobody can prove to be such a word, so whoever lets one
in says himself that claims pass unproven.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Final

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, StringConstraints

from ledger.errors import InvalidInput, Unauthorized
from ledger.values import evm_account

SOLANA_CHAINS: Final = {
    "mainnet": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
}
"""CAIP-2 names of the networks: the first 32 characters of the genesis hash."""

SOLANA_USDC: Final = {
    "mainnet": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    "devnet": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
}
"""The USDC mint of each network."""

OPEN_CHAIN: Final = "aether:open"
RESERVED_WORDS: Final = frozenset({"provider", "workers"})
"""Parties of every ledger; in no case, not even another spelling, is one a wallet."""

ED25519_PREFIX: Final = "ed25519:"
"""Begins the stored form of a Solana wallet's signature; 128 lower-case digits follow."""

_WORD: Final = r"[A-Za-z0-9._-]{1,64}"
_IS_WORD = re.compile(_WORD)
_EVM = re.compile(r"0x[0-9a-fA-F]{40}")
_SOLANA = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")
_BASE58_64_BYTES = re.compile(r"[1-9A-HJ-NP-Za-km-z]{64,88}")
_BASE64_64_BYTES = re.compile(r"[A-Za-z0-9+/]{86}==")
_HEX_64_BYTES = re.compile(r"(?:0x)?([0-9a-fA-F]{128})")
_STORED = re.compile(r"ed25519:([0-9a-f]{128})")

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_PRIME: Final = 2**255 - 19
_Y_OF_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset({0, 1, _PRIME - 1, _Y_OF_ORDER_8, _PRIME - _Y_OF_ORDER_8})
"""The y of the eight points whose order divides 8. Anyone can sign for such a key."""


def is_evm(wallet: str) -> bool:
    """Whether this is an EVM address, in whatever case."""
    return _EVM.fullmatch(wallet) is not None


def is_solana(wallet: str) -> bool:
    """Whether this is a Solana address: the base58 of 32 bytes."""
    return _SOLANA.fullmatch(wallet) is not None and len(_decoded(wallet)) == _KEY_BYTES


def parse_wallet(text: str) -> str:
    """Return the one spelling of a wallet, or raise `InvalidInput`; the word need be no address."""
    if not _IS_WORD.fullmatch(text) or text.lower() in RESERVED_WORDS:
        msg = "a wallet is a Solana address, an EVM address or another word of 1 to 64 characters"
        raise InvalidInput(msg)
    return text.lower() if is_evm(text) else text


def parse_address_of_either(text: str) -> str:
    """Return the one spelling of a Solana or an EVM address, or raise `InvalidInput`."""
    if is_evm(text):
        return text.lower()
    if is_solana(text):
        return text
    msg = "a wallet is 0x and 40 hexadecimal digits, or the base58 of 32 bytes"
    raise InvalidInput(msg)


def _one_spelling(wallet: str) -> str:
    try:
        normal = parse_wallet(wallet)
    except InvalidInput as error:
        raise ValueError(error.message) from error
    if normal != wallet:
        msg = "an EVM wallet is written in lower case"
        raise ValueError(msg)
    return wallet


Wallet = Annotated[str, StringConstraints(pattern=rf"^{_WORD}$"), AfterValidator(_one_spelling)]
"""A wallet in its one spelling, as events hold it."""


def account_of(wallet: str, evm_chain_id: int, solana_chain: str) -> str:
    """Return the CAIP-10 account of a wallet; `solana_chain` is one of `SOLANA_CHAINS`' values."""
    if is_evm(wallet):
        return evm_account(evm_chain_id, wallet)
    return f"{solana_chain if is_solana(wallet) else OPEN_CHAIN}:{wallet}"


def verify_ed25519(wallet: str, message: bytes, signature: bytes) -> None:
    """Raise `Unauthorized` unless this Solana wallet made this signature over these bytes.

    One signature has one form: s is below the group's order and both points are written in the
    one way that a point has. Points of small order are refused, since for such a key, signatures
    can be made that nobody's secret stands behind.
    """
    if not is_solana(wallet):
        msg = "the wallet is no Solana address"
        raise Unauthorized(msg)
    key = _decoded(wallet)
    if len(signature) != _SIGNATURE_BYTES or _is_weak(key) or _is_weak(signature[:_KEY_BYTES]):
        msg = f"the signature is not {wallet}'s"
        raise Unauthorized(msg)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        msg = f"the signature is not {wallet}'s"
        raise Unauthorized(msg) from error


def parse_ed25519_signature(text: str) -> bytes:
    """Return the 64 bytes that base58, base64 (with its padding) or hexadecimal digits hold.

    Anything else raises `Unauthorized`. No text has two readings: the padding tells base64 from
    base58, and hexadecimal is longer than either.
    """
    raw = b""
    if match := _HEX_64_BYTES.fullmatch(text):
        raw = bytes.fromhex(match[1])
    elif _BASE64_64_BYTES.fullmatch(text):
        raw = _from_base64(text)
    elif _BASE58_64_BYTES.fullmatch(text):
        raw = _decoded(text)
    if len(raw) != _SIGNATURE_BYTES:
        msg = "a Solana wallet's signature is 64 bytes as base58, base64 or hexadecimal digits"
        raise Unauthorized(msg)
    return raw


def stored_ed25519(signature: bytes) -> str:
    """Return the form of a Solana wallet's signature that events hold."""
    return ED25519_PREFIX + signature.hex()


def ed25519_of_stored(text: str) -> bytes:
    """Return the 64 bytes of a signature in its stored form, or raise `Unauthorized`."""
    match = _STORED.fullmatch(text)
    if not match:
        msg = "the signature is not in its normal form"
        raise Unauthorized(msg)
    return bytes.fromhex(match[1])


def _decoded(text: str) -> bytes:
    """Return the bytes of base58 digits; the alphabet was checked, so there is one reading."""
    return base58.b58decode(text)


def _from_base64(text: str) -> bytes:
    """Return the bytes, or none if the last digit holds bits that say nothing."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


def _is_weak(point: bytes) -> bool:
    """Whether 32 bytes are a point of small order, or y is not written in its least form."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return y >= _PRIME or y in _SMALL_ORDER_Y
