"""Signing in with a wallet: the one text of EIP-4361 that this service gives out and takes back.

The text is rebuilt from its few variable parts and compared as a whole, so nothing else can be in
it. Its nonce is made with a key that lives as long as the process: no list of open challenges can
be filled up by strangers, and a text from before a restart is worth nothing.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from eth_utils.address import to_checksum_address

from ledger.errors import InvalidInput, Unauthorized
from ledger.signing import normalise_signature, recover
from ledger.values import UnixMs, iso_of, parse_iso

CHALLENGE_MS: Final = 5 * 60 * 1000
MAX_MESSAGE_CHARACTERS: Final = 2048
_RANDOM_HEX: Final = 32
_PARTS: Final = re.compile(
    r"[^\n]{1,300} wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n[^\n]{1,400}\n\n"
    r"URI: [^\n]{1,300}\nVersion: 1\nChain ID: [0-9]{1,10}\n"
    r"Nonce: (?P<nonce>[0-9a-f]{96})\n"
    r"Issued At: (?P<issued>[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z)\n"
    r"Expiration Time: [0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the wallet signs in: what its owner sees and must recognise."""

    domain: str
    uri: str
    chain_id: int
    origin: str


def _refused(message: str) -> Unauthorized:
    return Unauthorized(message, code="CHALLENGE_INVALID")


class Challenges:
    """Gives out challenges and takes each back once, signed."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._spent: dict[str, int] = {}

    def message(self, site: Site, address: str, now: UnixMs) -> str:
        """Return the text to sign for an address."""
        random = secrets.token_hex(_RANDOM_HEX // 2)
        return self._text(site, address, random, now)

    def prove(self, site: Site, message: str, signature: str, now: UnixMs) -> str:
        """Return the wallet that signed one of our texts just now, or raise `Unauthorized`."""
        match = _PARTS.fullmatch(message) if len(message) <= MAX_MESSAGE_CHARACTERS else None
        if match is None:
            raise _refused("the message is none of ours; ask for a challenge")
        try:
            issued = parse_iso(match["issued"])
        except InvalidInput as error:
            raise _refused("the message is none of ours; ask for a challenge") from error
        nonce, address = match["nonce"], match["address"].lower()
        ours = self._text(site, address, nonce[:_RANDOM_HEX], issued)
        if not hmac.compare_digest(ours.encode(), message.encode()):
            raise _refused("the message is none of ours; ask for a challenge")
        if now >= issued + CHALLENGE_MS:
            raise _refused("the challenge has expired; ask for another one")
        if recover(message.encode(), normalise_signature(signature)) != address:
            raise Unauthorized("the signature is not that of the named address")
        self._spend(nonce, now)
        return address

    def _spend(self, nonce: str, now: UnixMs) -> None:
        self._spent = {n: end for n, end in self._spent.items() if now < end}
        if nonce in self._spent:
            raise _refused("the challenge was used before; ask for another one")
        self._spent[nonce] = now + CHALLENGE_MS

    def _text(self, site: Site, address: str, random: str, issued: UnixMs) -> str:
        bound = f"{random}\n{site.domain}\n{address.lower()}\n{issued}".encode()
        mac = hmac.new(self._key, bound, sha256).hexdigest()
        return (
            f"{site.domain} wants you to sign in with your Ethereum account:\n"
            f"{to_checksum_address(address)}\n\n"
            f"Sign in to the order ledger {site.origin}. This orders nothing and pays nothing.\n\n"
            f"URI: {site.uri}\nVersion: 1\nChain ID: {site.chain_id}\n"
            f"Nonce: {random}{mac}\n"
            f"Issued At: {iso_of(issued)}\n"
            f"Expiration Time: {iso_of(UnixMs(issued + CHALLENGE_MS))}"
        )
