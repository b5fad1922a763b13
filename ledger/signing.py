"""Signatures: EIP-191 over text, one normal form, and the only texts that our wallet may sign.

Parties may sign with Ed25519 as well; see `ledger.wallets`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from coincurve import PrivateKey, PublicKey
from sha3 import keccak_256

from ledger.errors import Misconfigured, Unauthorized, VerificationError
from ledger.wallets import ED25519_PREFIX, ed25519_of_stored, verify_ed25519

EVENT_PREFIX: Final = b"IVXP-LEDGER-EVENT/1\n"
ORDER_HEAD_PREFIX: Final = b"IVXP-LEDGER-ORDER-HEAD/1\n"
EVIDENCE_PREFIX: Final = b"IVXP-LEDGER-EVIDENCE/1\n"
CLAIM_PREFIX: Final = b"ivxp-claim:"
SIGNABLE_PREFIXES: Final = (EVENT_PREFIX, ORDER_HEAD_PREFIX, EVIDENCE_PREFIX, CLAIM_PREFIX)
"""No text begins with two of these, and no client text or typed-data digest with any."""

_HALF_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SIGNATURE = re.compile(r"(?:0x)?([0-9a-fA-F]{130})")
_PRIVATE_KEY = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
_V_FORMS: Final = {0: 27, 1: 28, 27: 27, 28: 28}


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 digest that Ethereum uses (not SHA-3)."""
    return keccak_256(data).digest()  # type: ignore[no-any-return]  # the library has no types


def eip191_digest(message: bytes) -> bytes:
    """Return the digest that `personal_sign` signs; the length counts bytes."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message))


def normalise_signature(text: str) -> str:
    """Return the one stored form: 0x, 130 lower-case digits, v 27 or 28, s in the lower half.

    Accepted besides it: no 0x, upper case, v 0 or 1. Everything else raises `Unauthorized`: other
    lengths (EIP-2098, contract wallets' ERC-1271 and ERC-6492), v from 35 up, a high s, and r or s
    outside the curve's order, because each would be a second encoding of one signature.
    """
    match = _SIGNATURE.fullmatch(text)
    if not match:
        msg = "a signature is 65 bytes as hexadecimal digits; contract wallets are not supported"
        raise Unauthorized(msg)
    raw = bytes.fromhex(match[1])
    r, s, v = int.from_bytes(raw[:32]), int.from_bytes(raw[32:64]), _V_FORMS.get(raw[64])
    if v is None:
        msg = "the signature's v is none of 0, 1, 27, 28"
        raise Unauthorized(msg)
    if not 0 < r < _ORDER or not 0 < s <= _HALF_ORDER:
        msg = "the signature's r or s is out of range, or s is not in the lower half"
        raise Unauthorized(msg)
    return "0x" + raw[:64].hex() + f"{v:02x}"


def recover(message: bytes, signature: str) -> str:
    """Return the lower-case address that signed; the signature must be in the stored form."""
    raw = bytes.fromhex(signature[2:])
    try:
        key = PublicKey.from_signature_and_message(
            raw[:64] + bytes([raw[64] - 27]), eip191_digest(message), hasher=None
        )
    except ValueError as error:
        msg = "the signature recovers to no key"
        raise Unauthorized(msg) from error
    return address_of_key(key)


def verify_signature(message: bytes, signature: str, signer: str) -> None:
    """Raise `VerificationError` unless `signer` made this signature, in the stored form."""
    try:
        if normalise_signature(signature) != signature:
            msg = "the signature is not in its normal form"
            raise VerificationError(msg)
        recovered = recover(message, signature)
    except Unauthorized as error:
        raise VerificationError(error.message) from error
    if recovered != signer:
        msg = f"the signature is {recovered}'s, not {signer}'s"
        raise VerificationError(msg)


def is_of_solana(signature: str) -> bool:
    """Whether a party's signature in its stored form is that of a Solana wallet."""
    return signature.startswith(ED25519_PREFIX)


def verify_text(message: bytes, signature: str, signer: str) -> None:
    """Raise `VerificationError` unless this wallet, of either kind, signed a party's text."""
    if not is_of_solana(signature):
        verify_signature(message, signature, signer)
        return
    try:
        verify_ed25519(signer, message, ed25519_of_stored(signature))
    except Unauthorized as error:
        raise VerificationError(error.message) from error


def address_of_key(key: PublicKey) -> str:
    """Return the lower-case address of a public key."""
    return "0x" + keccak256(key.format(compressed=False)[1:])[-20:].hex()


class Signer:
    """The provider's signing wallet. It signs only texts that begin with a known prefix."""

    def __init__(self, secret: bytes) -> None:
        try:
            self._key = PrivateKey(secret)
        except ValueError as error:
            msg = "the signing key is no key of the curve: it is 0 or not below the curve's order"
            raise Misconfigured(msg) from error
        self.address: Final = address_of_key(self._key.public_key)

    def sign(self, message: bytes) -> str:
        """Return the EIP-191 signature in its stored form; RFC 6979, so repeatable."""
        if not message.startswith(SIGNABLE_PREFIXES):
            msg = "this wallet does not sign texts of that form"
            raise VerificationError(msg)
        raw = self._key.sign_recoverable(eip191_digest(message), hasher=None)
        return "0x" + raw[:64].hex() + f"{raw[64] + 27:02x}"


def load_secret(source: str, *, may_create: bool = True) -> bytes:
    """Return the 32 secret bytes that `file:PATH` or `env:NAME` names.

    A missing file is made with a fresh random key and mode 0600, unless a ledger that was opened
    with the lost key exists already. Raises `Misconfigured`.
    """
    scheme, _, rest = source.partition(":")
    if scheme == "env" and rest:
        return _secret_from_text(os.environ.get(rest, ""), source)
    if scheme == "file" and rest:
        path = Path(rest)
        if not path.exists():
            if not may_create:
                msg = f"{path} is missing, and the ledger was opened with the key that it held"
                raise Misconfigured(msg)
            write_secret(path, secrets.token_bytes(32))
        return _secret_from_file(path)
    msg = "a key source is file:PATH or env:NAME"
    raise Misconfigured(msg)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a key file that only its owner can read; never over an existing one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(json.dumps({"secret": "0x" + secret.hex()}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _secret_from_file(path: Path) -> bytes:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        msg = f"{path} can be read by others; make its mode 0600"
        raise Misconfigured(msg)
    try:
        secret = json.loads(path.read_text(encoding="ascii"))["secret"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} is not a key file"
        raise Misconfigured(msg) from error
    return _secret_from_text(str(secret), str(path))


def _secret_from_text(text: str, source: str) -> bytes:
    match = _PRIVATE_KEY.fullmatch(text.strip())
    if not match:
        msg = f"{source} holds no 32-byte key in hexadecimal"
        raise Misconfigured(msg)
    return bytes.fromhex(match[1])
