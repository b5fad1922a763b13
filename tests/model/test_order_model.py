"""Orders over HTTP under everything that may happen to them, compared with their model."""

from __future__ import annotations

import time

import pytest

from tests.model.shadow import STATUSES
from tests.model.theatre import STEPS, Played, play
from tests.support import faults

PARTS = 4
PLAYS = 125


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_orders_are_what_the_model_says_after_every_step(part: int) -> None:
    number, played, began = faults.seed() + part, Played(), time.monotonic()

    play(number, PLAYS, played)

    plays = played.acts.pop("plays")
    print(  # noqa: T201 - the figures are the result
        f"model, part {part}: {plays} plays, {played.acts.total()} steps,"
        f" {played.kinds.total()} events, {time.monotonic() - began:.0f} s"
        f"\nacts {dict(played.acts.most_common())}\nkinds {dict(played.kinds.most_common())}"
    )
    assert plays >= PLAYS
    assert played.acts.total() >= PLAYS * STEPS
    assert played.kinds.keys() >= STATUSES
