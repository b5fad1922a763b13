"""Playing many plays from one seed, and what came of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import TEMPERS, OrderMachine
from tests.model.world import World

MEMORY = Path("/dev/shm")  # noqa: S108 - a disk in memory, where there is one
STEPS = 30


@dataclass
class Played:
    """How often each act was done and each kind of event recorded, and what failed."""

    acts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[Exception] = field(default_factory=list)


class Stage:
    """The world that plays are played in; one in which a play failed is not used again."""

    def __init__(self, played: Played) -> None:
        self._played = played
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
            self._played.kinds.update(self._world.kinds)
            self._world.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._world = self._folder = None


@contextmanager
def stage(played: Played) -> Iterator[Stage]:
    """Have a stage for the length of a block."""
    found = Stage(played)
    try:
        yield found
    finally:
        found.close()


def play(
    number: int,
    examples: int,
    played: Played,
    *,
    phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink),
    tempers: tuple[str, ...] = tuple(TEMPERS),
) -> None:
    """Play so many plays from a seed; what they came to is added to `played`."""
    with stage(played) as found:
        members = {
            "world": staticmethod(found.world),
            "counts": played.acts,
            "failures": played.failures,
            "tempers": tempers,
        }
        run_state_machine_as_test(
            seed(number)(type("Orders", (OrderMachine,), members)),
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
