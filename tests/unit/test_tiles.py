from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
import tlog_scales.signing
import tlog_scales.tiles
import tlog_scales.writer
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    frontier_root,
    inclusion_proof,
    leaf_hash,
    root_at,
    split_hashes,
    verify_consistency,
    verify_inclusion,
)
from ledger.tiles import TILE_WIDTH, Growth, TileNodes, Tree

MANY = 66_400
ENTRIES = [b"leaf %d" % number for number in range(MANY)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
SIZES = st.lists(st.integers(0, 300), min_size=1, max_size=8)
# Around the places where one, two and three levels of tiles fill.
STARTS = [0, 1, 255, 256, 257, 511, 65_279, 65_280, 65_534, 65_535, 65_536, 65_537]
STEPS = [1, 2, 255, 256, 257, 700]


def complete_rows(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return every complete node, by level and index, straight from the definition."""
    rows = [list(leaves)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append(
            [
                sha256(b"\x01" + row[at] + row[at + 1]).digest()
                for at in range(0, len(row) - len(row) % 2, 2)
            ]
        )
    return rows


ROWS = complete_rows(LEAVES)


class AllNodes:
    def node(self, level: int, index: int) -> bytes:
        return ROWS[level][index]


def tile_of(level: int, index: int, size: int) -> bytes:
    """Return the tile as it must be stored at a tree size."""
    row = ROWS[8 * level][: size >> 8 * level]
    return b"".join(row[index * TILE_WIDTH : (index + 1) * TILE_WIDTH])


def tree_of(size: int) -> Tree:
    partials = [ROWS[8 * level][: size >> 8 * level] for level in range(3)]
    return Tree(size, [row[len(row) - len(row) % TILE_WIDTH :] for row in partials])


def grow(tree: Tree, count: int) -> Growth:
    return tree.append(LEAVES[tree.size : tree.size + count])


class Stored:
    """What a store keeps of a tree: the tile rows, the last write winning, and the leaves."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.reads = 0

    def write(self, growth: Growth) -> None:
        self.tiles |= {(row.level, row.index): row.hashes for row in growth.tiles}

    def tile(self, level: int, index: int) -> bytes | None:
        self.reads += 1
        return self.tiles.get((level, index))

    def nodes(self) -> TileNodes:
        return TileNodes(self.tile, LEAVES.__getitem__)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_writes_exactly_the_tiles_that_it_changed(start: int, step: int) -> None:
    size = start + step

    written = {(row.level, row.index): row.hashes for row in grow(tree_of(start), step).tiles}

    expected: dict[tuple[int, int], bytes] = {}
    for level in range(3):
        first, last = start >> 8 * level, size >> 8 * level
        # The last level-0 tile waits until it is full; upper tiles are written as they are.
        tiles = range(first // TILE_WIDTH, (last + (TILE_WIDTH - 1 if level else 0)) // TILE_WIDTH)
        expected |= {(level, n): tile_of(level, n, size) for n in tiles if last > first}
    assert written == expected


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_proves_its_leaves_from_memory(start: int, step: int) -> None:
    growth = grow(tree_of(start), step)

    assert (growth.old_size, growth.size) == (start, start + step)
    assert growth.root == root_at(growth.size, AllNodes())
    assert frontier_root(growth.size, growth.frontier) == growth.root
    for index in range(growth.old_size, growth.size):
        proof = growth.inclusion_proof(index)
        assert proof == inclusion_proof(index, growth.size, AllNodes())
        verify_inclusion(LEAVES[index], index, growth.size, proof, growth.root)


@given(steps=SIZES)
def test_how_leaves_are_batched_changes_nothing(steps: list[int]) -> None:
    one, many = Stored(), Stored()
    whole = grow(Tree(), sum(steps))
    one.write(whole)

    tree = Tree()
    heads = [(0, EMPTY_ROOT)]
    for step in steps:
        growth = grow(tree, step)
        many.write(growth)
        heads.append((growth.size, growth.root))

    assert (growth.size, growth.root, growth.frontier) == (whole.size, whole.root, whole.frontier)
    assert (tree.size, tree.root) == (whole.size, whole.root)
    assert many.tiles == one.tiles
    for size, root in heads:
        proof = consistency_proof(size, whole.size, many.nodes())
        verify_consistency(size, root, whole.size, whole.root, proof)


@given(steps=SIZES, data=st.data())
def test_stored_tiles_give_the_proof_that_the_step_gave(
    steps: list[int], data: st.DataObject
) -> None:
    tree, stored = Tree(), Stored()
    for step in [*steps, 1]:
        growth = grow(tree, step)
        stored.write(growth)
        index = data.draw(st.integers(growth.size - step, growth.size - 1)) if step else None
        if index is not None:
            proof = inclusion_proof(index, growth.size, stored.nodes())
            assert proof == growth.inclusion_proof(index)
            verify_inclusion(LEAVES[index], index, growth.size, proof, growth.root)
    assert root_at(tree.size, stored.nodes()) == tree.root


@pytest.mark.parametrize("start", STARTS)
def test_a_tree_from_its_partial_tiles_goes_on_as_the_one_that_grew(start: int) -> None:
    grown = Tree()
    grow(grown, start)
    loaded = tree_of(start)

    assert loaded.root == grown.root
    assert grow(loaded, 300) == grow(grown, 300)


def test_later_steps_leave_an_earlier_one_as_it_was() -> None:
    tree = tree_of(250)
    growth = grow(tree, 5)
    before = [growth.inclusion_proof(index) for index in range(250, 255)]
    tiles, root = list(growth.tiles), growth.root

    for _ in range(400):
        grow(tree, 3)

    assert [growth.inclusion_proof(index) for index in range(250, 255)] == before
    assert (list(growth.tiles), growth.root) == (tiles, root)


def test_the_callers_list_of_leaves_may_change_afterwards() -> None:
    tree = tree_of(1)
    leaves = LEAVES[1:5]
    growth = tree.append(leaves)
    before = growth.inclusion_proof(3)

    leaves.clear()

    assert growth.inclusion_proof(3) == before


def test_a_fork_that_grew_and_was_dropped_leaves_its_tree_as_it_was() -> None:
    tree, twin = tree_of(255), tree_of(255)

    grow(tree.fork(), 300)
    fork = tree.fork()

    assert tree.root == twin.root
    assert grow(tree, 10) == grow(twin, 10) == grow(fork, 10)


def test_an_empty_step_changes_nothing() -> None:
    for size in (0, 1, 256, 65_536):
        growth = grow(tree_of(size), 0)
        assert (growth.size, growth.root, growth.tiles) == (size, root_at(size, AllNodes()), ())


def test_a_step_proves_no_older_and_no_later_leaf() -> None:
    growth = grow(tree_of(10), 5)
    for index in (-1, 9, 15):
        with pytest.raises(ValueError, match="not new"):
            growth.inclusion_proof(index)


@pytest.mark.parametrize(
    ("size", "partials"),
    [
        (-1, []),
        (1, []),
        (0, [LEAVES[:1]]),
        (2, [LEAVES[:1]]),
        (256, []),
        (256, [LEAVES[:1], LEAVES[:1]]),
        (1, [[b"short"]]),
        (1, [LEAVES[:1], LEAVES[:1]]),
    ],
)
def test_partial_tiles_that_do_not_fit_the_size_are_refused(
    size: int, partials: list[list[bytes]]
) -> None:
    with pytest.raises(VerificationError):
        Tree(size, partials)


def test_a_leaf_hash_of_another_length_is_refused_and_nothing_is_appended() -> None:
    tree = tree_of(3)
    with pytest.raises(ValueError, match="32 bytes"):
        tree.append([LEAVES[3], b"short"])
    assert (tree.size, tree.root) == (3, root_at(3, AllNodes()))


def test_a_missing_or_short_upper_tile_is_an_error_and_never_a_wrong_node() -> None:
    stored = Stored()
    stored.write(grow(Tree(), 1024))
    assert stored.nodes().node(8, 3) == ROWS[8][3]

    stored.tiles[1, 0] = stored.tiles[1, 0][:-32]
    with pytest.raises(VerificationError, match="lacks"):
        stored.nodes().node(8, 3)
    del stored.tiles[1, 0]
    with pytest.raises(VerificationError, match="lacks"):
        stored.nodes().node(9, 0)


def test_a_source_of_nodes_sees_what_was_appended_since() -> None:
    tree, stored = Tree(), Stored()
    nodes = stored.nodes()
    for _ in range(8):
        stored.write(grow(tree, 300))
        assert root_at(tree.size, nodes) == tree.root


def test_one_proof_reads_each_full_tile_once() -> None:
    stored = Stored()
    stored.write(grow(Tree(), MANY))
    nodes = stored.nodes()
    inclusion_proof(1000, MANY - MANY % TILE_WIDTH, nodes)
    stored.reads = 0

    inclusion_proof(2000, MANY - MANY % TILE_WIDTH, nodes)
    inclusion_proof(2001, MANY - MANY % TILE_WIDTH, nodes)

    # One level-0 tile, and the upper tile for two nodes that the first proof did not need.
    assert stored.reads <= 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_implementation_makes_the_same_trees(seed: int, tmp_path: Path) -> None:
    random = Random(seed)  # noqa: S311  # a fixed choice of sizes, no secret
    theirs = tlog_scales.writer.TilesWriter.create(tmp_path / "log", "log.example")
    signer = tlog_scales.signing.DummySigner()
    tree, stored = Tree(), Stored()
    for _ in range(12):
        step = random.choice([1, 7, 100, 256, 300])
        for entry in ENTRIES[tree.size : tree.size + step]:
            theirs.add_leaf(entry)
        theirs.commit([signer])
        growth = grow(tree, step)
        stored.write(growth)

        assert theirs.reader.calculate_root_hash() == growth.root
        for _ in range(20):
            index = random.randrange(growth.size)
            proof = inclusion_proof(index, growth.size, stored.nodes())
            assert proof == theirs.reader.get_inclusion_proof(index, growth.size).node_hashes
            old = random.randrange(1, growth.size + 1)
            consistency = theirs.reader.get_consistency_proof(old, growth.size)
            assert consistency_proof(old, growth.size, stored.nodes()) == consistency.node_hashes
    for (level, index), hashes in stored.tiles.items():
        partial = len(split_hashes(hashes)) % TILE_WIDTH
        path = tlog_scales.tiles.tile_path(level, index, partial)
        assert (tmp_path / "log").joinpath(*path).read_bytes() == hashes
