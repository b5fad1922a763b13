"""The texts that a wallet signs to sign in, and how each kind of wallet signs them.

For an EVM wallet it is EIP-4361's, signed with EIP-191; for a Solana wallet the same lines in
CAIP-122's form, signed with Ed25519 over the text's UTF-8 bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from eth_utils.address import to_checksum_address

from ledger.errors import Unauthorized
from ledger.signing import normalise_signature, recover
from ledger.values import UnixMs, iso_of
from ledger.wallets import is_solana, parse_ed25519_signature, verify_ed25519

CHALLENGE_MS: Final = 5 * 60 * 1000
MAX_MESSAGE_CHARACTERS: Final = 2048
PARTS: Final = re.compile(
    r"[^\n]{1,300} wants you to sign in with your (?:Ethereum|Solana) account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})\n\n[^\n]{1,400}\n\n"
    r"URI: [^\n]{1,300}\nVersion: 1\nChain ID: [a-z0-9:]{1,20}\n"
    r"Nonce: (?P<nonce>[0-9a-f]{96})\n"
    r"Issued At: (?P<issued>[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z)\n"
    r"Expiration Time: [0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z",
    re.ASCII,
)
"""Finds the variable parts. That nothing else is in a text is known once it was made anew."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the wallet signs in: what its owner sees and must recognise."""

    domain: str
    uri: str
    chain_id: int
    solana_network: str
    origin: str


def sign_in_text(site: Site, wallet: str, nonce: str, issued: UnixMs) -> str:
    """Return the text to sign; `wallet` has its one spelling."""
    if is_solana(wallet):
        account, shown, chain = "Solana", wallet, f"solana:{site.solana_network}"
    else:
        account, shown, chain = "Ethereum", to_checksum_address(wallet), str(site.chain_id)
    return (
        f"{site.domain} wants you to sign in with your {account} account:\n"
        f"{shown}\n\n"
        f"Sign in to the order ledger {site.origin}. This orders nothing and pays nothing.\n\n"
        f"URI: {site.uri}\nVersion: 1\nChain ID: {chain}\n"
        f"Nonce: {nonce}\n"
        f"Issued At: {iso_of(issued)}\n"
        f"Expiration Time: {iso_of(UnixMs(issued + CHALLENGE_MS))}"
    )


def signature_bytes(wallet: str, message: bytes, signature: str) -> bytes:
    """Return the one form of a wallet's signature over a message, or raise `Unauthorized`."""
    if is_solana(wallet):
        raw = parse_ed25519_signature(signature)
        verify_ed25519(wallet, message, raw)
        return raw
    normal = normalise_signature(signature)
    if recover(message, normal) != wallet:
        raise Unauthorized("the signature is not that of the named address")
    return bytes.fromhex(normal[2:])
