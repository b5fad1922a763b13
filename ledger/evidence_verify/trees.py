"""The log: RFC 6962 hashes and proofs, signed notes, and proofs as text (C2SP)."""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode, b64encode

from ledger.evidence_verify.basics import EM_DASH, Bad, encoded, fail, need, time_text
from ledger.evidence_verify.curves import require_ed25519

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").hexdigest()
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF = 63
MAX_NOTE_LINES = 64
ED25519, COSIGNATURE = 1, 4
COSIGNATURE_BYTES = 8 + 64
SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


class Head:
    """Size and root (hex) of the tree, and the signed note that says so."""

    def __init__(self, origin: str, size: int, root: str, note: str) -> None:
        self.origin = origin
        self.size = size
        self.root = root
        self.note = note


class VerifierKey:
    """A public key under the name that its signature lines carry."""

    def __init__(self, text: str) -> None:
        parts = text.split("+", 2)  # base64 has pluses of its own
        need(len(parts) == 3, f"{text!r} is no verifier key")  # noqa: PLR2004
        self.text = text
        self.name = parts[0]
        data = unbase64(parts[2])
        need(len(data) == 1 + HASH_BYTES, f"{text!r} holds no Ed25519 key")
        self.kind, self.key = data[0], data[1:]
        digest = hashlib.sha256(encoded(self.name) + b"\n" + data).digest()
        self.key_id = digest[:4]
        fits = KEY_ID.fullmatch(parts[1]) and parts[1] == self.key_id.hex()
        need(fits and _is_key_name(self.name), f"the id of {text!r} is not that of its key")


def leaf_hash(entry: bytes) -> str:
    return hashlib.sha256(b"\x00" + entry).hexdigest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def require_included(leaf: str, index: int, size: int, proof: list[bytes], root: str) -> None:
    """Raise `Bad` unless the leaf stands at this index of the tree; the proof runs upwards."""
    need(0 <= index < size, f"a tree of {size} leaves has no leaf {index}")
    seen, last, used = bytes.fromhex(leaf), size - 1, 0
    while last:
        if index & 1 or index < last:
            need(used < len(proof), "the inclusion proof is too short")
            other, used = proof[used], used + 1
            seen = _node(other, seen) if index & 1 else _node(seen, other)
        index, last = index >> 1, last >> 1
    need(used == len(proof), "the inclusion proof is too long")
    need(seen.hex() == root, "the inclusion proof leads to another root")


def require_prefix(old: tuple[int, str], new: tuple[int, str], proof: list[bytes]) -> None:
    """Raise `Bad` unless the old tree (size, root) is the beginning of the new one."""
    size, root = old
    need(0 <= size <= new[0], f"a tree of {size} leaves is no beginning of one of {new[0]}")
    if size in (0, new[0]):
        need(not proof, "the consistency proof is too long")
        expected = EMPTY_ROOT if size == 0 else new[1]
        need(root == expected, f"two roots for one tree size {size}")
        return
    need(_roots(old, new[0], proof) == (root, new[1]), "the consistency proof leads elsewhere")


def _roots(old: tuple[int, str], new_size: int, proof: list[bytes]) -> tuple[str, str]:
    """Return the old and the new root that a proof for 0 < old < new leads to."""
    index, last, rest = old[0] - 1, new_size - 1, list(proof)
    while index & 1:
        index, last = index >> 1, last >> 1
    need(rest or not index, "the consistency proof is too short")
    first = second = rest.pop(0) if index else bytes.fromhex(old[1])
    while last:
        if index & 1 or index < last:
            need(rest, "the consistency proof is too short")
            other = rest.pop(0)
            if index & 1:
                first, second = _node(other, first), _node(other, second)
            else:
                second = _node(second, other)
        index, last = index >> 1, last >> 1
    need(not rest, "the consistency proof is too long")
    return first.hex(), second.hex()


def parse_head(note: str) -> Head:
    """Read a note in its one encoding as a checkpoint; no signature is verified."""
    text, lines = _split_note(note)
    for line in lines:
        _signature(line)
    parts = text.split("\n")
    need(len(parts) == 4 and not parts[3], "a checkpoint is an origin, a size and a root")  # noqa: PLR2004
    need(parts[0] and SIZE.fullmatch(parts[1]), "a checkpoint has an origin and a size")
    root = unbase64(parts[2])
    need(len(root) == HASH_BYTES, "the checkpoint's root is no hash")
    return Head(parts[0], int(parts[1]), root.hex(), note)


def signed_by(note: str, key: VerifierKey) -> bool:
    """Whether a log key signed the note; raises `Bad` if it stands there and does not verify."""
    text, lines = _split_note(note)
    found = [signature for signature in map(_signature, lines) if _is_of(signature, key)]
    for _, data in found:
        require_ed25519(key.key, encoded(text), data[4:])
    return bool(found)


def witnessed_at(note: str, key: VerifierKey) -> int | None:
    """Return when a witness saw the tree, in Unix seconds; None if it did not sign."""
    text, lines = _split_note(note)
    times = []
    for _, data in [s for s in map(_signature, lines) if _is_of(s, key)]:
        need(len(data) == 4 + COSIGNATURE_BYTES, "a witness's line has another length")
        seconds = int.from_bytes(data[4:12], "big")
        message = f"cosignature/v1\ntime {seconds}\n{text}"
        require_ed25519(key.key, encoded(message), data[12:])
        times.append(seconds)
    return min(times, default=None)


def other_lines(note: str, known: list[VerifierKey]) -> list[str]:
    """Return what lines of other keys claim: a name, and a time where it may be a witness's."""
    said = []
    for name, data in map(_signature, _split_note(note)[1]):
        if any(_is_of((name, data), key) for key in known):
            continue
        seconds = int.from_bytes(data[4:12], "big")
        is_time = len(data) == 4 + COSIGNATURE_BYTES
        said.append(f"{name}, at {time_text(seconds)}" if is_time else name)
    return said


def consistency_text(proof: list[bytes], note: str) -> str:
    return "".join(f"{b64encode(h).decode()}\n" for h in proof) + "\n" + note


def inclusion_text(index: int, proof: list[bytes], note: str) -> str:
    return f"{PROOF_HEADER}\nindex {index}\n{consistency_text(proof, note)}"


def parse_consistency(text: str, note: str) -> list[bytes]:
    """Return the hashes of a consistency proof that ends with this very checkpoint."""
    need(text.endswith("\n" + note), "a proof that does not end with the final checkpoint")
    lines = text[: -len(note) - 1].split("\n")[:-1]
    proof = _hashes(lines)
    need(consistency_text(proof, note) == text, "a proof in another encoding")
    return proof


def parse_inclusion(text: str, note: str) -> tuple[int, list[bytes]]:
    """Return index and hashes of a `tlog-proof` that ends with this very checkpoint."""
    lines = text.split("\n", 2)
    need(len(lines) == 3 and lines[0] == PROOF_HEADER, f"a proof begins with {PROOF_HEADER}")  # noqa: PLR2004
    match = INDEX.fullmatch(lines[1])
    if match is None:
        fail("a proof names the index of its leaf")
    return int(match[1]), parse_consistency(lines[2], note)


def unbase64(text: str) -> bytes:
    """Decode base64 in its one encoding."""
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Bad(f"{text!r} is no base64") from error
    need(b64encode(data).decode() == text, f"{text!r} has another encoding")
    return data


def _hashes(lines: list[str]) -> list[bytes]:
    need(len(lines) <= MAX_PROOF, f"a proof has at most {MAX_PROOF} hashes")
    found = [unbase64(line) for line in lines]
    need(all(len(h) == HASH_BYTES for h in found), "a hash in a proof is 32 bytes")
    return found


def _split_note(note: str) -> tuple[str, list[str]]:
    """Return the signed text, with its last newline, and the signature lines."""
    need(not any(c < " " and c != "\n" for c in note), "a note with a control character")
    body, blank, lines = note.rpartition("\n\n")
    need(blank and lines.endswith("\n"), "a note is a text, an empty line, and signature lines")
    found = lines[:-1].split("\n")
    need(len(found) <= MAX_NOTE_LINES, "a note with too many signatures")
    return body + "\n", found


def _signature(line: str) -> tuple[str, bytes]:
    """Return the key's name, and id and signature end to end."""
    need(line.startswith(EM_DASH + " "), "a signature line begins with a dash")
    name, _, text = line[2:].partition(" ")
    need(_is_key_name(name), "a signature line names its key")
    data = unbase64(text)
    need(len(data) > 4, "a signature line holds a key id and a signature")  # noqa: PLR2004
    return name, data


def _is_of(signature: tuple[str, bytes], key: VerifierKey) -> bool:
    return signature[0] == key.name and signature[1][:4] == key.key_id


def _is_key_name(name: str) -> bool:
    return bool(name) and not any(c == "+" or c.isspace() or c < " " for c in name)
