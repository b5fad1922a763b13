"""Reading the marketplace's views: agents, conversations, messages and deals, by key or wallet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

MAX_SEARCHED: Final = 10_000
"""Agents that a search looks at, the oldest first."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent; what it says of itself lies in the content store. Times in Unix ms."""

    agent: str
    owner: str
    profile_id: str
    services_id: str | None
    listed: int
    registered_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Record:
    """What came of an agent's orders, or of a wallet's; amounts in micro-USDC, times in ms."""

    orders: int
    delivered: int
    amount_micros: int
    payout_micros: int
    reviews: int
    rating: float | None


@dataclass(frozen=True, slots=True)
class TalkRow:
    """A conversation. Times in Unix ms."""

    conversation: str
    agent: str
    agent_wallet: str
    client_wallet: str
    client_type: str
    started_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message, or an offer as the message that it is; `position` is the event's in the ledger."""

    position: int
    conversation: str
    message: str
    sender: str
    text_id: str
    attachments_id: str | None
    order_id: str | None
    at_ms: int


class MarketReader:
    """A read-only connection to views.db for one thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
        )

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def agent(self, agent: str) -> AgentRow | None:
        """Return an agent, or None if the views have none of this id."""
        found = self._rows(AgentRow, "agents WHERE agent=?", (agent,))
        return found[0] if found else None

    def agents_of(self, owner: str) -> list[AgentRow]:
        """Return the agents of a wallet, in the order of their registration."""
        return self._rows(AgentRow, "agents WHERE owner=? ORDER BY position", (owner,))

    def listed(self) -> list[AgentRow]:
        """Return the agents that a search may find, the oldest first."""
        where = "agents WHERE listed=1 ORDER BY position LIMIT ?"
        return self._rows(AgentRow, where, (MAX_SEARCHED,))

    def records(self) -> dict[str, Record]:
        """Return what came of the orders of every agent that was ever paid."""
        rows = self._db.execute(f"SELECT agent, {_RECORD} FROM deals GROUP BY agent")  # noqa: S608 - fixed words
        return {row[0]: Record(*row[1:]) for row in rows}

    def record_of(self, *, agent: str = "", wallet: str = "") -> Record:
        """Return what came of the orders of one agent, or of all agents of a wallet."""
        where = "agent=?" if agent else "agent_wallet=?"
        query = f"SELECT {_RECORD} FROM deals WHERE {where}"  # noqa: S608 - fixed words
        return Record(*self._db.execute(query, (agent or wallet,)).fetchone())

    def answered_after_ms(self, *, agent: str = "", wallet: str = "") -> float | None:
        """Return after how long, on average, a client's first message was answered."""
        where = "agent=?" if agent else "agent_wallet=?"
        query = (
            "SELECT avg(answered_ms - asked_ms) FROM conversations"  # noqa: S608 - fixed words
            f" WHERE {where} AND answered_ms >= asked_ms"
        )
        found = self._db.execute(query, (agent or wallet,)).fetchone()[0]
        return None if found is None else float(found)

    def answer_times(self) -> dict[str, float]:
        """Return the same for every agent that ever answered, in milliseconds."""
        rows = self._db.execute(
            "SELECT agent, avg(answered_ms - asked_ms) FROM conversations"
            " WHERE answered_ms >= asked_ms GROUP BY agent"
        )
        return {row[0]: float(row[1]) for row in rows}

    def conversation(self, conversation: str) -> TalkRow | None:
        """Return a conversation, or None if the views have none of this id."""
        found = self._rows(TalkRow, "conversations WHERE conversation=?", (conversation,))
        return found[0] if found else None

    def conversations_of(self, wallet: str, limit: int, offset: int) -> list[TalkRow]:
        """Return the conversations that a wallet takes part in, the liveliest first."""
        where = (
            "conversations WHERE client_wallet=?1 OR agent_wallet=?1"
            " ORDER BY last_ms DESC, conversation LIMIT ?2 OFFSET ?3"
        )
        return self._rows(TalkRow, where, (wallet, limit, offset))

    def messages(
        self, conversation: str, limit: int, offset: int | None, since_ms: int
    ) -> list[MessageRow]:
        """Return messages since a moment, oldest first: the newest ones, or from an offset on."""
        where = "messages WHERE conversation=? AND at_ms>=? ORDER BY position {} LIMIT ? OFFSET ?"
        values = (conversation, since_ms, limit, offset or 0)
        if offset is not None:
            return self._rows(MessageRow, where.format("ASC"), values)
        return self._rows(MessageRow, where.format("DESC"), values)[::-1]

    def messages_at(self, positions: Iterable[int]) -> list[MessageRow]:
        """Return the messages at these positions of the ledger, in their order."""
        found = (self._rows(MessageRow, "messages WHERE position=?", (at,)) for at in positions)
        return [row for rows in found for row in rows]

    def deals_of(
        self, sides: dict[str, str], word: str | None, limit: int, offset: int
    ) -> list[str]:
        """Return the orders of a wallet, newest first, of one status word if one is given.

        `sides` maps `client_wallet`, `agent_wallet` or both to the wallet: any of them will do.
        """
        any_side = " OR ".join(f"{side}=?" for side in sides)
        words, values = ("AND word=?", (word,)) if word else ("", ())
        query = (
            f"SELECT order_id FROM deals WHERE ({any_side}) {words}"  # noqa: S608 - fixed words
            " ORDER BY created_ms DESC, order_id LIMIT ? OFFSET ?"
        )
        found = self._db.execute(query, (*sides.values(), *values, limit, offset))
        return [row[0] for row in found]

    def paid(self, after: tuple[int, str], limit: int) -> list[tuple[int, str]]:
        """Return when orders came to count as paid (Unix ms), and their ids, oldest first."""
        rows = self._db.execute(
            "SELECT paid_ms, order_id FROM deals WHERE (paid_ms, order_id) > (?,?)"
            " ORDER BY paid_ms, order_id LIMIT ?",
            (*after, limit),
        )
        return [(row[0], row[1]) for row in rows]

    def delivered_in(self, conversation: str) -> list[str]:
        """Return the orders of a conversation that were delivered, in that order."""
        rows = self._db.execute(
            "SELECT order_id FROM deals WHERE conversation=? AND delivered_ms IS NOT NULL"
            " ORDER BY delivered_ms, order_id",
            (conversation,),
        )
        return [row[0] for row in rows]

    def position_of(self, order_id: str, kind: str) -> int | None:
        """Return where in the ledger the first event of a kind of an order stands."""
        row = self._db.execute(
            "SELECT min(position) FROM history WHERE order_id=? AND kind=?", (order_id, kind)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def _rows(self, kind: type[R], where: str, values: tuple[Any, ...]) -> list[R]:
        names = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]  # a dataclass
        query = f"SELECT {names} FROM {where}"  # noqa: S608 - fixed words
        return [kind(*row) for row in self._db.execute(query, values)]


_RECORD: Final = (
    "count(paid_ms), count(delivered_ms), ifnull(sum(amount_micros), 0),"
    " ifnull(sum(payout_micros), 0), count(rating), avg(rating)"
)
