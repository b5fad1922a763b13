"""The cursor over HTTP under everything that readers do, compared with its shadow; and mutants."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from ledger import cursor, cursor_lease
from ledger.cursor_events import CursorState, Lease, Place
from ledger.decision import Decision
from tests.model.cursor_machine import CursorMachine, CursorWorld
from tests.model.theatre import MEMORY
from tests.support import faults

EXAMPLES: Final = 375
PARTS: Final = 4
STEPS: Final = 25
MUTANT_EXAMPLES: Final = 1500

Patch = pytest.MonkeyPatch


@contextmanager
def a_world() -> Iterator[CursorWorld]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        world = CursorWorld(Path(folder))
        try:
            yield world
        finally:
            world.close()


def play(number: int, examples: int, *, phases: tuple[Phase, ...]) -> Counter[str]:
    """Play so many examples from a seed; return how often each act was done."""
    counts: Counter[str] = Counter()
    with a_world() as world:
        machine = type("Cursors", (CursorMachine,), {"world": world, "counts": counts})
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=phases,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    return counts


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_cursors_do_what_their_shadow_does(part: int) -> None:
    number, began = faults.seed() + part, time.monotonic()

    counts = play(number, EXAMPLES, phases=(Phase.generate, Phase.shrink))

    seconds = time.monotonic() - began
    print(f"cursor model, part {part}: {dict(counts.most_common())}, {seconds:.0f} s")  # noqa: T201
    assert counts["examples"] >= EXAMPLES


def the_bound_outlives_a_takeover(patch: Patch) -> None:
    """Count what the reader before had in hand as handed out to the new one."""
    real = cursor_lease._lease

    def lease(state: CursorState, *args: Any, to: Place, **more: Any) -> Lease:  # noqa: ANN401
        old = state.lease.to if state.lease is not None else to
        return real(state, *args, to=max(to, old, key=lambda place: place.pos), **more)

    patch.setattr(cursor_lease, "_lease", lease)


def an_old_token_acknowledges(patch: Patch) -> None:
    def require(state: CursorState, _token: int) -> Lease:
        if state.lease is None:
            raise cursor.StaleLease("no lease")
        return state.lease

    patch.setattr(cursor, "require_lease", require)


def two_read_at_once(patch: Patch) -> None:
    real = cursor_lease.fetch

    def fetch(state: CursorState, command: Any, at: Any) -> Decision:  # noqa: ANN401
        others = state.lease is not None and state.lease.holder != command.holder
        return real(state.model_copy(update={"lease": None}) if others else state, command, at)

    patch.setattr(cursor, "fetch", fetch)


def more_than_was_handed_out_is_acknowledged(patch: Patch) -> None:
    real = cursor.require_lease

    def require(state: CursorState, token: int) -> Lease:
        lease = real(state, token)
        further = lease.to.model_copy(update={"pos": lease.to.pos + 1})
        return lease.model_copy(update={"to": further})

    patch.setattr(cursor, "require_lease", require)


def what_was_handed_out_is_not_repeated(patch: Patch) -> None:
    real = cursor_lease._granted

    def granted(state: CursorState, command: Any, at: Any, **more: Any) -> Decision:  # noqa: ANN401
        to = state.lease.to.pos if state.lease is not None else 0
        return real(state, command, at, **{**more, "after": max(more["after"], to)})

    patch.setattr(cursor_lease, "_granted", granted)


def attempts_are_not_counted(patch: Patch) -> None:
    patch.setattr(cursor_lease, "_poison", lambda _state, _feed: None)


def a_seek_leaves_the_lease(patch: Patch) -> None:
    real = cursor.seek

    def seek(state: CursorState, command: Any) -> Decision:  # noqa: ANN401
        decision = real(state, command)
        event: Any = decision.drafts[0].event
        kept = {"lease": state.lease, "token": state.token}
        after = event.state.model_copy(update=kept)
        return cursor.decided(event.model_copy(update={"state": after}))

    patch.setattr(cursor, "seek", seek)


def auto_mode_hands_out_twice(patch: Patch) -> None:
    real = cursor_lease._leased

    def leased(state: CursorState, *args: Any) -> Decision:  # noqa: ANN401
        command, lease, events, changes, attempt = args
        left = {name: value for name, value in changes.items() if name != "acked"}
        auto = state.settings.mode == "auto"
        return real(state, command, lease, events, left if auto else changes, attempt)

    patch.setattr(cursor_lease, "_leased", leased)


def the_place_goes_back(patch: Patch) -> None:
    """Let an acknowledgement of what is done already move the place back to it."""
    patch.setattr(cursor, "reached", lambda state, _feed: min(state.acked.pos - 1, 0))


MUTANTS: Final[tuple[Callable[[Patch], None], ...]] = (
    the_bound_outlives_a_takeover,
    an_old_token_acknowledges,
    two_read_at_once,
    more_than_was_handed_out_is_acknowledged,
    what_was_handed_out_is_not_repeated,
    attempts_are_not_counted,
    a_seek_leaves_the_lease,
    auto_mode_hands_out_twice,
    the_place_goes_back,
)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_model_catches(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)

    # What a wrong product leaves behind may make a repeat of the play end otherwise.
    with pytest.raises((AssertionError, Flaky)) as caught:
        play(faults.seed(), MUTANT_EXAMPLES, phases=(Phase.generate,))
    print(f"caught: {caught.value}"[:300])  # noqa: T201
