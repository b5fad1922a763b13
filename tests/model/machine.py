"""Orders of two clients, pushed about at random: what hypothesis plays with."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.acts import MAX_ORDERS, Acts, Picks
from tests.model.world import World

CHOICES: Final = 12
"""As many as the longest act takes, and two for which act it is."""

WEIGHTS: Final = {
    "go on": 70,
    "quote": 5,
    "pay": 14,
    "notice": 16,
    "elsewhere": 4,
    "again": 8,
    "receipt": 6,
    "dispute": 4,
    "withdraw": 2,
    "ruling": 2,
    "erase": 2,
    "download": 4,
    "start": 4,
    "hand in": 8,
    "fail": 3,
    "answer": 2,
    "give back": 3,
    "refund": 3,
    "mine": 5,
    "reorg": 9,
    "silence": 2,
    "later": 4,
    "turn": 9,
    "all turns": 3,
    "look": 3,
}
"""How often each act is tried."""

TEMPERS: Final[dict[str, dict[str, int]]] = {
    "calm": {},
    "stormy": {"reorg": 16, "silence": 6, "turn": 20, "mine": 10},
    "quarrelsome": {"dispute": 16, "answer": 6, "withdraw": 6, "ruling": 6, "later": 8},
    "generous": {"give back": 12, "refund": 12, "dispute": 8, "receipt": 10},
    "forgetful": {"again": 30, "elsewhere": 20},
    "slow": {"later": 24, "mine": 24, "all turns": 16, "turn": 16},
    "careless": {"receipt": 40, "hand in": 30, "download": 12},
    "busy": {"start": 10, "hand in": 16, "fail": 10, "download": 8, "turn": 16},
}
"""What happens more often in plays of some temper: each comes where others rarely come."""

choices = st.binary(min_size=CHOICES, max_size=CHOICES)


class OrderMachine(Acts, RuleBasedStateMachine):
    """One play. The world that it is played in outlives it."""

    world: ClassVar[Callable[[], World]]
    tempers: ClassVar[tuple[str, ...]] = tuple(TEMPERS)

    def __init__(self) -> None:
        super().__init__()
        self.here = type(self).world()
        self.acts: dict[str, Callable[[Picks], None]] = {
            "go on": self.go_on,
            "quote": self.quote,
            "pay": self.pay,
            "notice": self.notice,
            "elsewhere": self.same_notice_elsewhere,
            "again": self.again,
            "receipt": self.receipt,
            "dispute": self.dispute,
            "withdraw": self.withdraw,
            "ruling": self.ruling,
            "erase": self.erase,
            "download": self.download,
            "start": self.start,
            "hand in": self.hand_in,
            "fail": self.fail,
            "answer": self.answer,
            "give back": self.give_back,
            "refund": self.refund,
            "mine": self.mine,
            "reorg": self.reorg,
            "silence": self.silence,
            "later": self.later,
            "turn": self.turn,
            "all turns": self.all_turns,
            "look": self.look_or_restart,
        }
        self.weights = WEIGHTS
        self.do(self.here.begin())
        self.counts["plays"] += 1

    def teardown(self) -> None:
        """End the play; one that failed leaves its world as it is."""
        try:
            if self.fine:
                self.do(self.here.finish())
        finally:
            self.here.spoiled = not self.fine

    @initialize(temper=st.integers(0, len(TEMPERS) - 1), chosen=choices)
    def two_quotes(self, temper: int, chosen: bytes) -> None:
        self.weights = WEIGHTS | TEMPERS[self.tempers[temper % len(self.tempers)]]
        self.quote(Picks(b"\0" + chosen))
        self.quote(Picks(b"\1" + bytes(CHOICES)))

    @rule(chosen=choices)
    def step(self, chosen: bytes) -> None:
        """Do one of the acts that are possible now, by its weight."""
        possible = {name: self.weights[name] for name in self.acts if self._is_possible(name)}
        left = int.from_bytes(chosen[:2]) * sum(possible.values()) >> 16
        for name, weight in possible.items():
            if left < weight:
                note(name)
                self.acts[name](Picks(chosen[2:]))
                return
            left -= weight

    def _is_possible(self, name: str) -> bool:
        play = self.play
        match name:
            case "quote":
                return len(play.orders) < MAX_ORDERS
            case "notice" | "reorg":
                return bool(play.txs)
            case "elsewhere":
                return any(sent.said for sent in play.sent)
            case "refund":
                return bool(play.refunds)
            case _:
                return True
