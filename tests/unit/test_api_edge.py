"""When a caller who does not take its answer is cut, and when it is only slow."""

from __future__ import annotations

from typing import cast

import pytest

from api.edge import PROGRESS_BYTES, Place

PATIENCE = 60.0


class FakeTransport:
    """Stands for a connection with so many bytes waiting."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cut = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.cut = True


def cut_at(waiting: list[int], step_seconds: float = 15.0) -> int | None:
    """Return the look at which the connection is cut, or None."""
    transport = FakeTransport()
    place = Place(cast("object", transport), "203.0.113.9")  # type: ignore[arg-type]
    for look, size in enumerate(waiting):
        transport.waiting = size
        place.check(1000.0 + look * step_seconds, PATIENCE)
        if transport.cut:
            return look
    return None


MUCH = 100 * PROGRESS_BYTES


@pytest.mark.parametrize(
    ("name", "waiting", "look"),
    [
        ("nothing waits", [0] * 20, None),
        ("never reads", [MUCH] * 20, 4),
        ("never reads little", [1] * 20, 4),
        ("reads just enough", [MUCH - n // 4 * PROGRESS_BYTES for n in range(40)], None),
        ("reads too little", [MUCH - n * PROGRESS_BYTES // 5 for n in range(40)], 4),
        ("reads all in time", [MUCH, MUCH, MUCH, 0] * 5, None),
        ("stops reading later", [0, 0, 0, *[MUCH] * 20], 7),
        ("takes nothing while more is added", [MUCH + n for n in range(20)], 4),
        ("takes less than is added", [MUCH + n * PROGRESS_BYTES for n in range(20)], 4),
    ],
)
def test_a_connection_is_cut_when_its_answer_does_not_leave(
    name: str, waiting: list[int], look: int | None
) -> None:
    assert cut_at(waiting) == look
