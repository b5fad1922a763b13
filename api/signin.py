"""Signing in with a wallet: the one text that this service gives out and takes back.

The text is rebuilt from its few variable parts and compared as a whole, so nothing else can be in
it. Its nonce is made with a key that lives as long as the process: no list of open challenges can
be filled up by strangers, and a text from before a restart is worth nothing.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

from api.siwx import (
    CHALLENGE_MS,
    MAX_MESSAGE_CHARACTERS,
    PARTS,
    Site,
    sign_in_text,
    signature_bytes,
)
from api.siwx_once import Once
from ledger.errors import InvalidInput, Unauthorized
from ledger.values import UnixMs, parse_iso
from ledger.wallets import parse_address_of_either

_RANDOM_HEX: Final = 32
_MOST_ANSWERED: Final = 100_000
_MOST_SIGNATURES: Final = 100_000
MOST_SIGNATURES_EACH: Final = 600
"""Of one wallet: about eight requests a second, as each is remembered for 60 to 75 seconds."""
_NOT_OURS: Final = "the message is none of ours; ask for a challenge"


def _refused(message: str) -> Unauthorized:
    return Unauthorized(message, code="CHALLENGE_INVALID")


class Challenges:
    """Gives out challenges and takes each back once, signed."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._answered = Once(_MOST_ANSWERED)
        self.signatures: Final = Once(_MOST_SIGNATURES, most_each=MOST_SIGNATURES_EACH)
        """Those under single requests: each is a challenge that the caller set itself."""

    def message(self, site: Site, wallet: str, now: UnixMs) -> str:
        """Return the text to sign for a wallet."""
        random = secrets.token_hex(_RANDOM_HEX // 2)
        return self._text(site, wallet, random, now)

    def prove(self, site: Site, message: str, signature: str, now: UnixMs) -> str:
        """Return the wallet that signed one of our texts just now, or raise `Unauthorized`."""
        match = PARTS.fullmatch(message) if len(message) <= MAX_MESSAGE_CHARACTERS else None
        if match is None:
            raise _refused(_NOT_OURS)
        nonce = match["nonce"]
        try:
            issued = parse_iso(match["issued"])
            wallet = parse_address_of_either(match["address"])
        except InvalidInput as error:
            raise _refused(_NOT_OURS) from error
        ours = self._text(site, wallet, nonce[:_RANDOM_HEX], issued)
        if not hmac.compare_digest(ours.encode(), message.encode()):
            raise _refused(_NOT_OURS)
        if now >= issued + CHALLENGE_MS:
            raise _refused("the challenge has expired; ask for another one")
        signature_bytes(wallet, message.encode(), signature)
        if not self._answered.use(nonce.encode(), issued + CHALLENGE_MS, now):
            raise _refused("the challenge was used before; ask for another one")
        return wallet

    def _text(self, site: Site, wallet: str, random: str, issued: UnixMs) -> str:
        bound = f"{random}\n{site.domain}\n{wallet}\n{issued}".encode()
        mac = hmac.new(self._key, bound, sha256).hexdigest()
        return sign_in_text(site, wallet, random + mac, issued)
