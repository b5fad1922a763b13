"""Cosignatures: a witness's signed word on a checkpoint, C2SP `cosignature/v1`, byte exact. Pure.

It says: at this time, this was the largest tree of the log that I had seen, and it continued every
one that I saw before. It says nothing about what the log holds.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.checkpoint import Note, NoteSignature, parse_note
from ledger.errors import VerificationError

_TYPE: Final = b"\x04"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64
_MAX_TIME: Final = 2**63
_VKEY: Final = re.compile(r"(?P<name>[^\s+]+)\+(?P<id>[0-9a-f]{8})\+(?P<key>[A-Za-z0-9+/]{44})")
_CONTROL: Final = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's Ed25519 public key (32 bytes) under the name that its signature lines carry."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256 over name, newline, type and key."""
        data = self.name.encode() + b"\n" + _TYPE + self.public_key
        return sha256(data).digest()[:_KEY_ID_BYTES]

    def vkey(self) -> str:
        """Return the key as text: name, key id in hex, type and key in base64."""
        encoded = b64encode(_TYPE + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: whose it is, the second it speaks of, and its line in the note."""

    key: WitnessKey
    at: int
    signature: NoteSignature


class Cosigner:
    """A witness's private key. It never appears in its own `repr`."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Take a key name and a seed of 32 bytes; anything else raises `ValueError`."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key: Final = WitnessKey(name, self._private.public_key().public_bytes_raw())
        if not _VKEY.fullmatch(self.key.vkey()) or _CONTROL.search(name):
            raise ValueError("a key name is not empty and has no space, plus or control character")
        self._key_id = self.key.key_id

    def cosign(self, text: str, at: int) -> NoteSignature:
        """Return the signature of a checkpoint's text at a Unix second.

        Whether this checkpoint may be cosigned at all is for the witness's record to say.
        """
        if not 0 < at < _MAX_TIME:
            raise ValueError("a cosignature has a time after 1970")
        signed = self._private.sign(_message(text, at))
        return NoteSignature(self.key.name, self._key_id, at.to_bytes(_TIME_BYTES) + signed)


def parse_witness_key(text: str) -> WitnessKey:
    """Parse an Ed25519 cosigner's vkey whose id fits its key, or raise `VerificationError`."""
    match = _VKEY.fullmatch(text)
    if match is None or _CONTROL.search(text):
        raise VerificationError("a vkey is a name, a key id and a key with a plus between them")
    data = b64decode(match["key"])
    if len(data) != 1 + _KEY_BYTES or data[:1] != _TYPE:
        raise VerificationError("the vkey is none of a witness that cosigns with Ed25519 (type 04)")
    key = WitnessKey(match["name"], data[1:])
    if key.key_id.hex() != match["id"]:
        raise VerificationError("the vkey's id is not that of its key")
    return key


def cosignatures(note: Note, keys: Iterable[WitnessKey]) -> list[Cosignature]:
    """Return what these witnesses signed, in the note's order; other keys' lines mean nothing.

    A line of one of these keys that does not verify spoils the note: `VerificationError`.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found = []
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is not None:
            found.append(Cosignature(key, _verified_time(note.text, line, key), line))
    return found


def cosigned_answer(checkpoint: str, lines: str, key: WitnessKey) -> Cosignature:
    """Return the witness's cosignature out of the lines that it answered for our checkpoint.

    Raises `VerificationError` where there is none, or one that does not verify.
    """
    # The lines are read as the end of the note that they are for. If what came were more than
    # lines, it would move the end of the text; the text must still be ours.
    note = parse_note(checkpoint + lines)
    if note.text != parse_note(checkpoint).text:
        raise VerificationError("the answer holds more than signature lines")
    found = cosignatures(note, [key])
    if not found:
        raise VerificationError(f"no signature of {key.name}+{key.key_id.hex()}")
    return max(found, key=lambda cosignature: cosignature.at)


def _verified_time(text: str, line: NoteSignature, key: WitnessKey) -> int:
    stamp, signature = line.signature[:_TIME_BYTES], line.signature[_TIME_BYTES:]
    at = int.from_bytes(stamp)
    if len(signature) != _SIGNATURE_BYTES or not 0 < at < _MAX_TIME:
        raise VerificationError(f"a cosignature of {key.name} has another form")
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, _message(text, at))
    except (InvalidSignature, ValueError) as error:
        raise VerificationError(f"a cosignature of {key.name} does not verify") from error
    return at


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()
