"""A witness: cosigns a log's checkpoint if it continues the newest one that it cosigned before.

The rules of C2SP `tlog-witness`, for any log that signs with Ed25519. What was cosigned is in the
record before anybody gets the signature: a witness that forgets would vouch for two histories.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.checkpoint import Checkpoint, Note, NoteSignature, VerifierKey, parse_note
from ledger.cosignature import Cosigner
from ledger.errors import Conflict, InvalidInput, NotFound, Unauthorized, VerificationError
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from ledger.proof_text import consistency_text, parse_consistency
from ledger.witness_state import Cosigned, WitnessState

_MAX_SIZE: Final = 2**63
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_ROOT: Final = re.compile(r"[A-Za-z0-9+/]{43}=", re.ASCII)


class Malformed(InvalidInput):
    """The submission does not have the documented form."""


class UnknownLog(NotFound):
    """No log of this origin is watched here."""


class NotSigned(Unauthorized):
    """No key of the log signed this checkpoint, or one of its signatures does not verify."""


class OutOfStep(Conflict):
    """The old size is not that of the newest checkpoint that was cosigned here."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the newest cosigned checkpoint is of {size} entries")
        self.size: Final = size


class OtherRoot(Conflict):
    """The log signed two roots of one size: whoever holds both notes can prove it."""

    def __init__(self, cosigned: str, submitted: str) -> None:
        super().__init__("another root of this size was cosigned before")
        self.cosigned: Final = cosigned
        self.submitted: Final = submitted


class NotConsistent(VerificationError):
    """The proof does not lead from the cosigned checkpoint to this one."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What `add-checkpoint` takes: the size to go on from, the proof, and the signed checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    @property
    def checkpoint(self) -> Checkpoint:
        """The first three lines of the note; what a log adds below them is signed, and no more."""
        return read_checkpoint(self.note.text)


class Witness:
    """One witness: its key, the logs it watches by their origin, and its record.

    For one thread at a time. What it signed is durable before `add_checkpoint` returns.
    """

    def __init__(
        self,
        cosigner: Cosigner,
        logs: Mapping[str, Sequence[VerifierKey]],
        state: WitnessState,
    ) -> None:
        self._cosigner = cosigner
        self._logs = dict(logs)
        self._state = state
        self._origins = {origin_hash(origin): origin for origin in logs}

    @property
    def vkey(self) -> str:
        """The public half of its key, as text."""
        return self._cosigner.key.vkey()

    def add_checkpoint(self, body: bytes, now: int) -> str:
        """Return the cosignature's line for a submission at a Unix second, or raise the refusal."""
        # (1): it has the form of a submission, and is of a log that is watched here.
        submission = parse_submission(body)
        checkpoint = submission.checkpoint
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            raise UnknownLog("no log of this origin is watched here")
        # (2): a key of the log signed it.
        signatures = _verified_signatures(submission.note, keys)
        if submission.old > checkpoint.size:
            raise Malformed("the old size lies above the checkpoint's")

        def cosign(known: Cosigned | None) -> Cosigned:
            # (3): it continues what was cosigned before. Decided inside the record's transaction:
            # of two submissions at a time, one sees what the other has left.
            require_continuation(known, submission)
            # A later statement never speaks of an earlier time, whatever the clock does.
            at = max(now, known.at) if known is not None else now
            line = self._cosigner.cosign(submission.note.text, at)
            note = Note(submission.note.text, (*signatures, line)).encode()
            return Cosigned(checkpoint.size, checkpoint.root, at, note)

        cosigned = self._state.advance(checkpoint.origin, cosign)
        return cosigned.note[:-1].rpartition("\n")[2] + "\n"

    def newest(self, name: str) -> str:
        """Return the newest cosigned checkpoint of the log whose origin has this hash."""
        origin = self._origins.get(name)
        known = self._state.known(origin) if origin is not None else None
        if known is None:
            raise UnknownLog("no checkpoint of such a log was cosigned here")
        return known.note


def require_continuation(known: Cosigned | None, submission: Submission) -> None:
    """Raise the refusal unless a submission continues the newest checkpoint that was cosigned."""
    size, root = (0, EMPTY_ROOT) if known is None else (known.size, known.root)
    new = submission.checkpoint
    if submission.old != size:
        raise OutOfStep(size)
    if known is not None and new.size == size and new.root != root:
        raise OtherRoot(known.note, submission.note.encode())
    try:
        verify_consistency(size, root, new.size, new.root, submission.proof)
    except VerificationError as error:
        raise NotConsistent(error.message) from error


def origin_hash(origin: str) -> str:
    """Return the name under which monitors ask for a log: SHA-256 of its origin, in hex."""
    return sha256(origin.encode()).hexdigest()


def submission_text(old: int, proof: Sequence[bytes], note: str) -> str:
    """Return the body of `add-checkpoint`."""
    return f"old {old}\n{consistency_text(proof, note)}"


def parse_submission(body: bytes) -> Submission:
    """Return a body of `add-checkpoint` read, or raise `Malformed`. Nothing of it is verified."""
    try:
        first, _, rest = body.decode().partition("\n")
        old = _old_size(first)
        proof, note = parse_consistency(rest)
        submission = Submission(old, proof, parse_note(note))
        read_checkpoint(submission.note.text)
    except UnicodeDecodeError as error:
        raise Malformed("the body is not UTF-8") from error
    except VerificationError as error:
        raise Malformed(error.message) from error
    return submission


def read_checkpoint(text: str) -> Checkpoint:
    """Return the origin, size and root that a note's text begins with, or `VerificationError`.

    Whether the root can be that of the size is for the proof to show.
    """
    lines = text.split("\n")[:-1]
    if len(lines) < len(("origin", "size", "root")) or "" in lines:
        raise VerificationError("a checkpoint is an origin, a size and a root, one per line")
    return Checkpoint(lines[0], _size(lines[1]), _root(lines[2]))


def _verified_signatures(note: Note, keys: Sequence[VerifierKey]) -> list[NoteSignature]:
    """Return one signature of each of these keys that signed; a bad one spoils the note."""
    known = {(key.name, key.key_id): key for key in keys}
    found = {}
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            public = Ed25519PublicKey.from_public_bytes(key.public_key)
            public.verify(line.signature, note.text.encode())
        except (InvalidSignature, ValueError) as error:
            raise NotSigned("a signature of the log's key does not verify") from error
        found[line.name, line.key_id] = line
    if not found:
        raise NotSigned("no key of this log signed the checkpoint")
    return list(found.values())


def _old_size(line: str) -> int:
    if not line.startswith("old "):
        raise VerificationError("the first line is `old` and a size")
    return _size(line.removeprefix("old "))


def _size(text: str) -> int:
    if not _SIZE.fullmatch(text) or int(text) >= _MAX_SIZE:
        raise VerificationError("a size is a number below 2**63, without zeros before it")
    return int(text)


def _root(text: str) -> bytes:
    root = b64decode(text) if _ROOT.fullmatch(text) else b""
    # Spare bits in the last digit would be a second encoding of the same root.
    if len(root) != HASH_BYTES or b64encode(root).decode() != text:
        raise VerificationError(f"a root is {HASH_BYTES} bytes in base64")
    return root
