"""Orders over HTTP under everything that may happen to them, compared with their model."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import OrderMachine
from tests.model.world import World
from tests.support import faults

MEMORY = Path("/dev/shm")  # noqa: S108 - a disk in memory, where there is one
PARTS = 4
EXAMPLES = 125
STEPS = 30


class Stage:
    """The world that plays are played in; one in which a play failed is not used again."""

    def __init__(self) -> None:
        self._world: World | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def world(self) -> World:
        if self._world is not None and self._world.spoiled:
            self.close()
        if self._world is None:
            # The model asks for agreement, not for durability: it need not wait for a disk.
            where = MEMORY if MEMORY.is_dir() else None
            self._folder = tempfile.TemporaryDirectory(dir=where)
            self._world = World(Path(self._folder.name))
        return self._world

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._world = self._folder = None


@contextmanager
def stage() -> Iterator[Stage]:
    found = Stage()
    try:
        yield found
    finally:
        found.close()


def play(
    number: int, examples: int, *, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)
) -> Counter[str]:
    """Play so many examples from a seed; return how often each rule was played."""
    counts: Counter[str] = Counter()
    with stage() as found:
        machine = type(
            "Orders", (OrderMachine,), {"world": staticmethod(found.world), "counts": counts}
        )
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=phases,
                report_multiple_bugs=False,
                print_blob=True,
                verbosity=Verbosity.normal,
                suppress_health_check=list(HealthCheck),
            ),
            _min_steps=STEPS,
        )
    return counts


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_orders_are_what_the_model_says_after_every_step(part: int) -> None:
    number = faults.seed() + part
    began = time.monotonic()

    counts = play(number, EXAMPLES)

    examples = counts.pop("plays")
    print(  # noqa: T201 - the figures are the result
        f"model part {part}: {examples} examples, {counts.total()} steps,"
        f" {time.monotonic() - began:.0f} s; {dict(counts.most_common())}"
    )
    assert counts.total() >= EXAMPLES * STEPS
