"""Which blocks are canonical, as one node saw it at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocks:
    """Canonical hashes by height. `finalized_number` is -1 where the node knows no such block."""

    head_number: int
    finalized_number: int
    hashes: Mapping[int, str]
