import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    frontier_root,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_at,
    split_hashes,
    verify_consistency,
    verify_inclusion,
)

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "merkle"
VECTORS: dict[str, list[dict[str, Any]]] = json.loads((ASSETS / "vectors.json").read_text())
EIGHT_LEAVES = [
    leaf_hash(bytes.fromhex(text)) for text in json.loads((ASSETS / "leaves.json").read_text())
]
LEAVES = [leaf_hash(b"leaf %d" % number) for number in range(300)]
OTHER = sha256(b"other").digest()
# The source accepts equal roots that are no hashes; see the README beside the vectors.
STRICTER = {"consistency/additional/sizes-are-equal-zero-and-proof-is-empty"}


def reference_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root as RFC 6962, section 2.1, defines it, over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(reference_root(leaves[:split]), reference_root(leaves[split:]))


@dataclass(frozen=True)
class Leaves:
    """A source of nodes that computes each node anew."""

    hashes: Sequence[bytes]

    def node(self, level: int, index: int) -> bytes:
        leaves = self.hashes[index << level : (index + 1) << level]
        assert len(leaves) == 1 << level, "only complete subtrees may be asked for"
        return reference_root(leaves)


@dataclass(frozen=True)
class Inclusion:
    leaf: bytes
    index: int
    size: int
    proof: tuple[bytes, ...]
    root: bytes

    def verify(self) -> None:
        verify_inclusion(self.leaf, self.index, self.size, self.proof, self.root)

    def faults(self) -> Iterator[tuple[str, "Inclusion"]]:
        for index in (self.index - 1, self.index + 1, self.index ^ 2):
            yield f"leaf index {index}", replace(self, index=index)
        for size in (self.size * 2, self.size // 2, 0, -1):
            yield f"tree size {size}", replace(self, size=size)
        for leaf in (OTHER, b"", b"WrongLeaf"):
            yield f"leaf {leaf.hex()}", replace(self, leaf=leaf)
        for root in (OTHER, b"", EMPTY_ROOT):
            yield f"root {root.hex()}", replace(self, root=root)
        for what, proof in faulty_proofs(self.proof, self.root, self.leaf):
            yield what, replace(self, proof=proof)


@dataclass(frozen=True)
class Consistency:
    old: int
    old_root: bytes
    new: int
    new_root: bytes
    proof: tuple[bytes, ...]

    def verify(self) -> None:
        verify_consistency(self.old, self.old_root, self.new, self.new_root, self.proof)

    def faults(self) -> Iterator[tuple[str, "Consistency"]]:
        if self.proof:  # a tree that is compared with itself has a proof of any size
            for old in (self.old - 1, self.old + 1, self.old ^ 2, self.new + 1, -1):
                yield f"old size {old}", replace(self, old=old)
            for new in (self.new * 2, self.new // 2, 0):
                yield f"new size {new}", replace(self, new=new)
        for root in (OTHER, b"", EMPTY_ROOT):
            yield f"old root {root.hex()}", replace(self, old_root=root)
            yield f"new root {root.hex()}", replace(self, new_root=root)
        if self.old_root != self.new_root:
            swapped = replace(self, old_root=self.new_root, new_root=self.old_root)
            yield "swapped roots", swapped
        for what, proof in faulty_proofs(self.proof, self.old_root, self.new_root):
            yield what, replace(self, proof=proof)


def faulty_proofs(
    proof: tuple[bytes, ...], *roots: bytes
) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    for item in (b"", b"garbage", OTHER, *roots):
        yield f"trailing {item.hex()}", (*proof, item)
        yield f"preceding {item.hex()}", (item, *proof)
    for at, item in enumerate(proof):
        for changed in (bytes([item[0] ^ 8]) + item[1:], item[:-1], item + b"\0"):
            yield f"modified {at}", (*proof[:at], changed, *proof[at + 1 :])
        yield f"removed {at}", (*proof[:at], *proof[at + 1 :])
        yield f"inserted at {at}", (*proof[:at], OTHER, *proof[at:])
    if proof:
        yield "empty proof", ()


def verifies(proof: Inclusion | Consistency) -> bool:
    try:
        proof.verify()
    except VerificationError:
        return False
    return True


def inclusion_of(case: dict[str, Any]) -> Inclusion:
    proof = tuple(b64decode(item) for item in case["proof"])
    leaf, root = b64decode(case["leafHash"]), b64decode(case["root"])
    return Inclusion(leaf, case["leafIndex"], case["treeSize"], proof, root)


def consistency_of(case: dict[str, Any]) -> Consistency:
    proof = tuple(b64decode(item) for item in case["proof"])
    old_root, new_root = b64decode(case["root1"]), b64decode(case["root2"])
    return Consistency(case["size1"], old_root, case["size2"], new_root, proof)


CASES = [(case, inclusion_of(case)) for case in VECTORS["inclusion"]] + [
    (case, consistency_of(case)) for case in VECTORS["consistency"]
]
VALID = [
    pytest.param(proof, id=case["name"])
    for case, proof in CASES
    if not case["wantErr"] and case["name"] not in STRICTER
]
INVALID = [
    pytest.param(proof, id=case["name"])
    for case, proof in CASES
    if case["wantErr"] or case["name"] in STRICTER
]


@pytest.mark.parametrize("proof", VALID)
def test_a_published_proof_verifies(proof: Inclusion | Consistency) -> None:
    proof.verify()


@pytest.mark.parametrize("proof", INVALID)
def test_a_published_fault_is_refused(proof: Inclusion | Consistency) -> None:
    with pytest.raises(VerificationError):
        proof.verify()


@pytest.mark.parametrize("proof", VALID)
def test_each_single_fault_in_a_published_proof_is_refused(
    proof: Inclusion | Consistency,
) -> None:
    faults = [(what, faulty) for what, faulty in proof.faults() if faulty != proof]

    assert len(faults) > 10
    assert [what for what, faulty in faults if verifies(faulty)] == []


@pytest.mark.parametrize("case", VECTORS["inclusion"][:5], ids=lambda case: case["name"])
def test_proofs_in_the_shared_eight_leaf_tree_are_the_published_ones(case: dict[str, Any]) -> None:
    published = inclusion_of(case)

    made = inclusion_proof(published.index, published.size, Leaves(EIGHT_LEAVES))

    assert tuple(made) == published.proof
    assert EIGHT_LEAVES[published.index] == published.leaf
    assert root_at(published.size, Leaves(EIGHT_LEAVES)) == published.root


@pytest.mark.parametrize("case", VECTORS["consistency"][:5], ids=lambda case: case["name"])
def test_consistency_in_the_shared_eight_leaf_tree_is_the_published_one(
    case: dict[str, Any],
) -> None:
    published = consistency_of(case)

    made = consistency_proof(published.old, published.new, Leaves(EIGHT_LEAVES))

    assert tuple(made) == published.proof


def test_every_proof_of_every_small_tree_verifies() -> None:
    source = Leaves(LEAVES)
    for size in range(1, 35):
        root = reference_root(LEAVES[:size])
        assert root_at(size, source) == root
        for index in range(size):
            proof = inclusion_proof(index, size, source)
            verify_inclusion(LEAVES[index], index, size, proof, root)
        for old in range(size + 1):
            proof = consistency_proof(old, size, source)
            verify_consistency(old, reference_root(LEAVES[:old]), size, root, proof)


@given(data=st.data())
def test_a_proof_with_one_flipped_bit_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, Leaves(LEAVES))
    at = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))

    proof[at] = (int.from_bytes(proof[at]) ^ 1 << bit).to_bytes(32)

    with pytest.raises(VerificationError, match="another root"):
        verify_inclusion(LEAVES[index], index, size, proof, reference_root(LEAVES[:size]))


@given(data=st.data())
def test_a_consistency_proof_with_one_flipped_bit_is_refused(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, len(LEAVES)))
    old = data.draw(st.integers(1, new - 1))
    proof = consistency_proof(old, new, Leaves(LEAVES))
    at = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))

    proof[at] = (int.from_bytes(proof[at]) ^ 1 << bit).to_bytes(32)

    with pytest.raises(VerificationError, match="other roots"):
        verify_consistency(
            old, reference_root(LEAVES[:old]), new, reference_root(LEAVES[:new]), proof
        )


def test_the_empty_tree_is_a_prefix_of_every_tree_and_proves_nothing() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 5, OTHER, [])
    for old_root, new, new_root, proof in [
        (OTHER, 5, OTHER, []),
        (EMPTY_ROOT, 0, OTHER, []),
        (EMPTY_ROOT, 5, OTHER, [OTHER]),
    ]:
        with pytest.raises(VerificationError):
            verify_consistency(0, old_root, new, new_root, proof)


@pytest.mark.parametrize("item", [b"", b"short", bytes(33), "a" * 32, bytearray(32), None])
def test_what_is_no_hash_is_refused_even_where_it_would_fit(item: Any) -> None:  # noqa: ANN401
    with pytest.raises(VerificationError, match="32 bytes"):
        verify_inclusion(item, 0, 1, [], item)
    with pytest.raises(VerificationError, match="32 bytes"):
        verify_consistency(1, item, 1, item, [])
    if isinstance(item, bytes):
        with pytest.raises(VerificationError, match="32 bytes"):
            verify_inclusion(OTHER, 0, 2, [item], node_hash(OTHER, item))


def test_a_frontier_of_another_length_is_refused() -> None:
    assert frontier_root(0, b"") == EMPTY_ROOT
    assert frontier_root(3, LEAVES[0] + LEAVES[1]) == node_hash(LEAVES[0], LEAVES[1])
    for size, frontier in [(0, OTHER), (3, OTHER), (4, OTHER[:-1]), (4, b""), (-1, OTHER)]:
        with pytest.raises(VerificationError, match="no frontier"):
            frontier_root(size, frontier)
    with pytest.raises(VerificationError, match="whole number"):
        split_hashes(OTHER + b"x")


def test_a_proof_of_what_is_not_in_the_tree_is_not_made() -> None:
    for index, size in [(0, 0), (3, 3), (-1, 3)]:
        with pytest.raises(ValueError, match="has no leaf"):
            inclusion_proof(index, size, Leaves(LEAVES))
    for old, new in [(4, 3), (-1, 3)]:
        with pytest.raises(ValueError, match="no prefix"):
            consistency_proof(old, new, Leaves(LEAVES))
