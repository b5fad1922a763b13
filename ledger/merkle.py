"""RFC 6962 hashing and proofs over SHA-256: made from any source of nodes, checked without one.

Every hash is 32 raw bytes. A node is named by its level (leaves are level 0) and its index on that
level; node (k, i) covers leaves i * 2**k up to (i + 1) * 2**k. Here nothing is stored or fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, Protocol

from ledger.errors import VerificationError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


class NodeSource(Protocol):
    """Gives the hash of any complete subtree: one whose leaves are all in the tree."""

    def node(self, level: int, index: int) -> bytes: ...


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def verify_inclusion(
    leaf_hash: bytes, leaf_index: int, tree_size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise `VerificationError` unless the leaf stands at `leaf_index` of the tree with this root.

    `tree_size` and `root` must come from a verified checkpoint, never from whoever sent the proof.
    The proof runs from the leaf up.
    """
    # (1): every hash is a hash, and the tree has such a leaf.
    _require_hashes(leaf_hash, root, *proof)
    if not 0 <= leaf_index < tree_size:
        raise VerificationError(f"a tree of {tree_size} leaves has no leaf {leaf_index}")
    # (2): the leaf and its siblings hash to the root, and the proof holds nothing else.
    siblings = iter(proof)
    seen = leaf_hash
    index, last = leaf_index, tree_size - 1
    while last:
        if index & 1:
            seen = node_hash(_next(siblings), seen)
        elif index < last:
            seen = node_hash(seen, _next(siblings))
        index, last = index >> 1, last >> 1
    _require_used_up(siblings)
    if seen != root:
        raise VerificationError("the inclusion proof leads to another root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise `VerificationError` unless the old tree is a prefix of the new one.

    The empty tree is a prefix of every tree, so `old_size` 0 holds with `EMPTY_ROOT` and an empty
    proof and says nothing about the new root. (C2SP witnesses read it so; some libraries refuse.)
    """
    # (1): every hash is a hash, and the sizes can be those of a prefix.
    _require_hashes(old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise VerificationError(f"a tree of {old_size} leaves is no prefix of one of {new_size}")
    for size, root in ((old_size, old_root), (new_size, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise VerificationError("an empty tree has another root")
    # (2): equal or empty trees need no proof and may have none.
    if old_size in (0, new_size):
        _require_used_up(iter(proof))
        if old_size == new_size and old_root != new_root:
            raise VerificationError(f"two roots for one tree size {old_size}")
        return
    # (3): the proof leads to both roots.
    if _roots_of_proof(old_size, old_root, new_size, proof) != (old_root, new_root):
        raise VerificationError("the consistency proof leads to other roots")


def _roots_of_proof(
    old_size: int, old_root: bytes, new_size: int, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the old and the new root that a proof for 0 < old < new leads to."""
    siblings = iter(proof)
    index, last = old_size - 1, new_size - 1
    while index & 1:  # climb to the largest complete subtree that ends where the old tree ends
        index, last = index >> 1, last >> 1
    # That subtree is the whole old tree if nothing lies to its left; then the proof leaves it out.
    old = new = _next(siblings) if index else old_root
    while last:
        if index & 1:
            sibling = _next(siblings)
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        elif index < last:
            new = node_hash(new, _next(siblings))
        index, last = index >> 1, last >> 1
    _require_used_up(siblings)
    return old, new


def root_at(size: int, nodes: NodeSource) -> bytes:
    """Return the root of the first `size` leaves; the source must hold at least so many."""
    return _range_root(0, size, nodes) if size else EMPTY_ROOT


def inclusion_proof(leaf_index: int, size: int, nodes: NodeSource) -> list[bytes]:
    """Return the siblings from the leaf up, in the tree of the first `size` leaves."""
    if not 0 <= leaf_index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {leaf_index}")
    proof = []
    for level in range((size - 1).bit_length()):
        sibling = (leaf_index >> level) ^ 1
        begin = sibling << level
        if begin < size:
            proof.append(_range_root(begin, min(begin + (1 << level), size), nodes))
    return proof


def consistency_proof(old: int, new: int, nodes: NodeSource) -> list[bytes]:
    """Return the proof that the first `old` leaves are a prefix of the first `new` ones."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves is no prefix of one of {new}")
    proof: list[bytes] = []
    if old in (0, new):
        return proof
    begin, end = 0, new
    while old != end:
        split = begin + (1 << (end - begin - 1).bit_length() - 1)
        if old <= split:
            proof.append(_range_root(split, end, nodes))
            end = split
        else:
            proof.append(_range_root(begin, split, nodes))
            begin = split
    if begin:  # a subtree that starts at leaf 0 is the old tree, whose root the verifier has
        proof.append(_range_root(begin, end, nodes))
    return proof[::-1]


def frontier_root(size: int, frontier: bytes) -> bytes:
    """Return the root of a tree from its frontier: one hash per set bit of size, largest first."""
    hashes = split_frontier(size, frontier)
    return _fold(hashes) if hashes else EMPTY_ROOT


def split_frontier(size: int, frontier: bytes) -> list[bytes]:
    """Return the frontier's hashes, or raise `VerificationError` if size has not that many."""
    if size < 0 or len(frontier) != HASH_BYTES * size.bit_count():
        raise VerificationError(f"{len(frontier)} bytes are no frontier of {size} leaves")
    return split_hashes(frontier)


def split_hashes(data: bytes) -> list[bytes]:
    """Return the hashes that stand end to end in `data`, or raise `VerificationError`."""
    if len(data) % HASH_BYTES:
        raise VerificationError(f"{len(data)} bytes are no whole number of hashes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _range_root(begin: int, end: int, nodes: NodeSource) -> bytes:
    """Return the root of leaves begin up to end; begin is aligned to a subtree that holds them."""
    hashes = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        hashes.append(nodes.node(level, begin >> level))
        begin += 1 << level
    return _fold(hashes)


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over subtrees of falling size; there is at least one."""
    seen = hashes[-1]
    for left in hashes[-2::-1]:
        seen = node_hash(left, seen)
    return seen


def _require_hashes(*hashes: bytes) -> None:
    if any(type(item) is not bytes or len(item) != HASH_BYTES for item in hashes):
        raise VerificationError(f"a hash is {HASH_BYTES} bytes")


def _next(siblings: Iterator[bytes]) -> bytes:
    try:
        return next(siblings)
    except StopIteration as error:
        raise VerificationError("the proof is too short") from error


def _require_used_up(siblings: Iterator[bytes]) -> None:
    if next(siblings, None) is not None:
        raise VerificationError("the proof is too long")
