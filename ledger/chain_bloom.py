"""The filter that a receipt holds of its own logs: it tells a receipt whose logs are missing. Pure.

A node that is behind with its logs, or cuts them, serves a receipt that looks like one of a
transaction which moved nothing. The filter was computed when the transaction was executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ledger.signing import keccak256

BLOOM_BYTES: Final = 256
_BITS: Final = 8 * BLOOM_BYTES
_PAIRS: Final = (0, 2, 4)
"""Each value sets three bits; the first six bytes of its hash say which."""


def bloom_of(values: Iterable[str]) -> str:
    """Return the filter of hexadecimal values: the address and the topics of every log."""
    bits = 0
    for value in set(values):
        digest = keccak256(bytes.fromhex(value.removeprefix("0x")))
        for at in _PAIRS:
            bits |= 1 << (int.from_bytes(digest[at : at + 2]) % _BITS)
    return "0x" + bits.to_bytes(BLOOM_BYTES).hex()
