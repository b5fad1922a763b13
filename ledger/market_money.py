"""The money of a marketplace order: what is due, and how it is split; all in integers."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

PaymentMethod = Literal["USDC", "ATHR"]

WHOLE_BPS: Final = 10_000


class Split(NamedTuple):
    """The parts of an amount in micro-units; they always sum up to it."""

    commission: int
    agent: int


def due_micros(price_micros: int, method: PaymentMethod) -> int:
    """Return what a price costs when paid this way: three quarters with ATHR, rounded down.

    Clients that choose ATHR transfer USDC all the same, only less of it.
    """
    return price_micros * 3 // 4 if method == "ATHR" else price_micros


def split(amount_micros: int, commission_bps: int) -> Split:
    """Return the commission, rounded down, and the rest, which is the agent's."""
    commission = amount_micros * commission_bps // WHOLE_BPS
    return Split(commission=commission, agent=amount_micros - commission)
