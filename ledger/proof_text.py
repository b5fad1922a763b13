"""Proofs as text: C2SP `tlog-proof` files and consistency proofs before a checkpoint. Pure.

A proof is only as good as the checkpoint below it: whoever reads one verifies that first, with a
key that was known before.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.errors import VerificationError
from ledger.merkle import HASH_BYTES

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF: Final = 63
"""Siblings in a proof: a tree of 2**63 leaves has no more levels."""
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class InclusionText:
    """One parsed `tlog-proof`: nothing of it is verified yet."""

    index: int
    proof: tuple[bytes, ...]
    checkpoint: str


def inclusion_text(index: int, proof: Sequence[bytes], checkpoint: str) -> str:
    """Return a `tlog-proof`: index, siblings from the leaf up, an empty line, the checkpoint."""
    return f"{HEADER}\nindex {index}\n{_lines(proof)}\n{checkpoint}"


def consistency_text(proof: Sequence[bytes], checkpoint: str) -> str:
    """Return a consistency proof: its hashes, an empty line, the newer checkpoint."""
    return f"{_lines(proof)}\n{checkpoint}"


def parse_inclusion(text: str) -> InclusionText:
    """Return a `tlog-proof` read, or raise `VerificationError`. A line `extra` means nothing."""
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines[0] != HEADER:
        raise VerificationError(f"a proof begins with {HEADER} and ends with a checkpoint")
    rest = lines[2:] if len(lines) > 1 and lines[1].startswith("extra ") else lines[1:]
    match = _INDEX.fullmatch(rest[0]) if rest else None
    if match is None:
        raise VerificationError("a proof names the index of its leaf")
    return InclusionText(int(match[1]), _hashes(rest[1:]), checkpoint)


def parse_consistency(text: str) -> tuple[tuple[bytes, ...], str]:
    """Return the hashes and the checkpoint of a consistency proof, or raise `VerificationError`."""
    if text.startswith("\n"):
        return (), text[1:]
    head, blank, checkpoint = text.partition("\n\n")
    if not blank:
        raise VerificationError("a consistency proof ends with a checkpoint")
    return _hashes(head.split("\n")), checkpoint


def _lines(proof: Sequence[bytes]) -> str:
    return "".join(f"{b64encode(sibling).decode()}\n" for sibling in proof)


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_PROOF:
        raise VerificationError(f"a proof has at most {MAX_PROOF} hashes")
    hashes = []
    for line in lines:
        try:
            data = b64decode(line, validate=True)
        except ValueError as error:
            raise VerificationError("a hash in a proof is base64") from error
        if len(data) != HASH_BYTES or b64encode(data).decode() != line:
            raise VerificationError(f"a hash in a proof is {HASH_BYTES} bytes in base64")
        hashes.append(data)
    return tuple(hashes)
