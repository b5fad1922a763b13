"""Checkpoints: origin, size and root of the tree as a C2SP signed note, byte exact.

A note has one encoding: whatever would be written differently from how it was read is refused, so
two parties who hold the same statement hold the same bytes.
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

from ledger.errors import VerificationError
from ledger.merkle import EMPTY_ROOT, HASH_BYTES

MAX_SIGNATURES: Final = 64
"""The format asks to accept 16; a limit keeps a hostile note from costing much."""

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_LINE_START: Final = "\N{EM DASH} "
_MAX_SIZE: Final = 2**63
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log signs: `root` (32 bytes) is the root of its first `size` leaves."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the three lines that are signed, with the final newline."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line; what `signature` holds depends on the key that `name` and id point to."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        return f"{_LINE_START}{self.name} {_b64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note. Its text means nothing before a signature of a trusted key was verified."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> str:
        return self.text + "\n" + "".join(item.line() for item in self.signatures)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 public key (32 bytes) under the name that its signature lines carry."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256 over name, newline, type and key."""
        data = self.name.encode() + b"\n" + _ED25519 + self.public_key
        return sha256(data).digest()[:_KEY_ID_BYTES]

    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_b64(_ED25519 + self.public_key)}"


class LogKey:
    """The log's Ed25519 key. It never appears in its own `repr`."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Take a key name and a seed of 32 bytes; anything else raises `ValueError`."""
        if not _is_key_name(name):
            raise ValueError("a key name is not empty and has no space, plus or control character")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._key = VerifierKey(name, self._private.public_key().public_bytes_raw())
        self._key_id = self._key.key_id

    @property
    def vkey(self) -> str:
        """The public half as text: name, key id in hex, type and key in base64."""
        return self._key.vkey()

    def sign_checkpoint(self, origin: str, size: int, root: bytes) -> str:
        """Return the signed note. Whether this head may be signed at all is the guard's to say."""
        checkpoint = Checkpoint(origin, size, root)
        try:
            _require_sound(checkpoint)
        except VerificationError as error:
            raise ValueError(error.message) from error
        text = checkpoint.text()
        signature = NoteSignature(self._key.name, self._key_id, self._private.sign(text.encode()))
        return Note(text, (signature,)).encode()


def parse_vkey(text: str) -> VerifierKey:
    """Parse an Ed25519 vkey whose id fits its key, or raise `VerificationError`."""
    parts = text.split("+", 2)  # base64 has pluses of its own
    if len(parts) != len(("name", "key id", "key")) or not _is_key_name(parts[0]):
        raise VerificationError("a vkey is a name, a key id and a key with a plus between them")
    name, key_id, encoded = parts
    data = _b64_decoded(encoded)
    if len(data) != 1 + _KEY_BYTES or data[:1] != _ED25519:
        raise VerificationError("the vkey holds no Ed25519 key")
    key = VerifierKey(name, data[1:])
    if not _KEY_ID.fullmatch(key_id) or bytes.fromhex(key_id) != key.key_id:
        raise VerificationError("the vkey's id is not that of its key")
    return key


def parse_note(text: str) -> Note:
    """Parse the one encoding of a note, or raise `VerificationError`. No signature is verified."""
    _require_plain(text)
    body, blank, lines = text.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise VerificationError("a note is a text, an empty line, and signature lines")
    signature_lines = lines[:-1].split("\n")
    if len(signature_lines) > MAX_SIGNATURES:
        raise VerificationError(f"a note has at most {MAX_SIGNATURES} signatures")
    note = Note(body + "\n", tuple(_parse_signature(line) for line in signature_lines))
    if note.encode() != text:
        raise VerificationError("the note has another encoding")
    return note


def verify_checkpoint(note_text: str, vkey: str, origin: str) -> Checkpoint:
    """Return the checkpoint that this key signed for this origin, or raise `VerificationError`."""
    # (1): the note has its one encoding, and the key is a key.
    note, key = parse_note(note_text), parse_vkey(vkey)
    # (2): the key signed it; one bad signature of this key spoils the note, others do not count.
    _verify_signatures(note, key)
    # (3): the text is a checkpoint in its one encoding, of this log.
    checkpoint = _parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise VerificationError(f"the checkpoint is of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def verify_by_any(note_text: str, vkeys: Iterable[str], origin: str) -> Checkpoint:
    """Return the checkpoint that one of these keys signed, or raise `VerificationError`."""
    problem = VerificationError("no key of the log is known")
    for vkey in sorted(vkeys):
        try:
            return verify_checkpoint(note_text, vkey, origin)
        except VerificationError as error:
            problem = error
    raise problem


def _verify_signatures(note: Note, key: VerifierKey) -> None:
    key_id = key.key_id
    known = [s for s in note.signatures if (s.name, s.key_id) == (key.name, key_id)]
    if not known:
        raise VerificationError(f"no signature of {key.name}+{key_id.hex()}")
    try:
        public = Ed25519PublicKey.from_public_bytes(key.public_key)
        for item in known:
            public.verify(item.signature, note.text.encode())
    except (InvalidSignature, ValueError) as error:
        raise VerificationError(f"a signature of {key.name} does not verify") from error


def _parse_checkpoint(text: str) -> Checkpoint:
    """Parse exactly three lines: this log signs no extension lines, since no witness vouches."""
    lines = text.split("\n")
    if len(lines) != len(("origin", "size", "root", "")) or not _SIZE.fullmatch(lines[1]):
        raise VerificationError("a checkpoint is an origin, a size and a root, one per line")
    checkpoint = Checkpoint(lines[0], int(lines[1]), _b64_decoded(lines[2]))
    _require_sound(checkpoint)
    return checkpoint


def _require_sound(checkpoint: Checkpoint) -> None:
    _require_plain(checkpoint.origin)
    if not checkpoint.origin or "\n" in checkpoint.origin:
        raise VerificationError("an origin is one line")
    if not 0 <= checkpoint.size < _MAX_SIZE:
        raise VerificationError("the size is no size of a tree")
    if len(checkpoint.root) != HASH_BYTES:
        raise VerificationError(f"a root is {HASH_BYTES} bytes")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise VerificationError("an empty tree has another root")


def _parse_signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_LINE_START).partition(" ")
    if not line.startswith(_LINE_START) or not _is_key_name(name):
        raise VerificationError("a signature line is a dash, a key name and base64")
    data = _b64_decoded(encoded)
    if len(data) <= _KEY_ID_BYTES:
        raise VerificationError("a signature line holds a key id and a signature")
    return NoteSignature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _require_plain(text: str) -> None:
    if _CONTROL.search(text):
        raise VerificationError("a note holds no control character but newline")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise VerificationError("a note is valid UTF-8") from error


def _is_key_name(name: str) -> bool:
    return bool(name) and not any(c == "+" or c.isspace() or c < " " for c in name)


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def _b64_decoded(text: str) -> bytes:
    """Decode standard base64, refusing every second encoding (spare bits, no padding, spaces)."""
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:  # also what a character outside ASCII raises
        raise VerificationError("not base64") from error
    if _b64(data) != text:
        raise VerificationError("base64 in another encoding")
    return data
