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
    """What came of an agent's orders, or of a wallet's; amounts in micro-USDC, times in ms.

    Kept as sums, so that nobody adds up orders or conversations to show it.
    """

    orders: int = 0
    delivered: int = 0
    amount_micros: int = 0
    payout_micros: int = 0
    reviews: int = 0
    ratings: int = 0
    answers: int = 0
    answers_ms: int = 0

    @property
    def rating(self) -> float | None:
        """The mean of the reviews."""
        return self.ratings / self.reviews if self.reviews else None

    @property
    def answered_after_ms(self) -> float | None:
        """After how long, on average, a client's first message was answered."""
        return self.answers_ms / self.answers if self.answers else None


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
        self.path: Final = path
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

    def listed(self) -> list[tuple[AgentRow, Record]]:
        """Return the agents that a search may find, the oldest first, each with its record."""
        agent = ", ".join(f"agents.{name}" for name in _names(AgentRow))
        sums = ", ".join(f"ifnull(records.{name}, 0)" for name in _names(Record))
        query = (
            f"SELECT {sums}, {agent} FROM agents LEFT JOIN records USING (agent)"  # noqa: S608 - fixed words
            " WHERE listed=1 ORDER BY position LIMIT ?"
        )
        rows, cut = self._db.execute(query, (MAX_SEARCHED,)), len(_names(Record))
        return [(AgentRow(*row[cut:]), Record(*row[:cut])) for row in rows]

    def record_of(self, *, agent: str = "", wallet: str = "") -> Record:
        """Return what came of the orders of one agent, or of all agents of a wallet."""
        where = "agent=?" if agent else "wallet=?"
        sums = ", ".join(f"ifnull(sum({name}), 0)" for name in _names(Record))
        query = f"SELECT {sums} FROM records WHERE {where}"  # noqa: S608 - fixed words
        return Record(*self._db.execute(query, (agent or wallet,)).fetchone())

    def conversation(self, conversation: str) -> TalkRow | None:
        """Return a conversation, or None if the views have none of this id."""
        found = self._rows(TalkRow, "conversations WHERE conversation=?", (conversation,))
        return found[0] if found else None

    def conversations_of(self, wallet: str, limit: int, offset: int) -> list[TalkRow]:
        """Return the conversations that a wallet takes part in, the liveliest first.

        No wallet talks to its own agents, so none stands on both sides. The page is cut in the
        indexes of the two; only its own rows are read.
        """
        side = "SELECT last_ms, conversation FROM conversations WHERE {}=?1"
        both = " UNION ALL ".join(side.format(name) for name in ("client_wallet", "agent_wallet"))
        query = f"{both} ORDER BY last_ms DESC, conversation LIMIT ?2 OFFSET ?3"
        page = self._db.execute(query, (wallet, limit, offset)).fetchall()
        found = (self.conversation(name) for _, name in page)
        return [talk for talk in found if talk is not None]

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
        parts: list[str] = []
        values: list[object] = []
        for count, (side, wallet) in enumerate(sides.items()):
            # One wallet is never on both sides of an order. Of two, what the part before finds
            # is left out here.
            twice = [each for each in list(sides.items())[:count] if each[1] != wallet]
            tests = [f"{side}=?", *(["word=?"] if word else []), *(f"{s}<>?" for s, _ in twice)]
            where = " AND ".join(tests)
            parts.append(f"SELECT created_ms, order_id FROM deals WHERE {where}")  # noqa: S608 - fixed words
            values += [wallet, *([word] if word else []), *(w for _, w in twice)]
        query = f"{' UNION ALL '.join(parts)} ORDER BY created_ms DESC, order_id LIMIT ? OFFSET ?"
        found = self._db.execute(query, (*values, limit, offset))
        return [row[1] for row in found]

    def paid(self, after: tuple[int, str], limit: int) -> list[tuple[int, str]]:
        """Return when orders came to count as paid (Unix ms), and their ids, oldest first."""
        rows = self._db.execute(
            "SELECT paid_ms, order_id FROM deals WHERE (paid_ms, order_id) > (?,?)"
            " ORDER BY paid_ms, order_id LIMIT ?",
            (*after, limit),
        )
        return [(row[0], row[1]) for row in rows]

    def delivered_in(self, conversation: str, limit: int, offset: int | None) -> list[str]:
        """Return orders of a conversation in the order of their delivery.

        The newest ones, or from an offset on.
        """
        query = (
            "SELECT order_id FROM deals WHERE conversation=? AND delivered_ms IS NOT NULL"
            " ORDER BY delivered_ms {0}, order_id {0} LIMIT ? OFFSET ?"
        )
        way = "DESC" if offset is None else "ASC"
        rows = self._db.execute(query.format(way), (conversation, limit, offset or 0))
        found = [str(row[0]) for row in rows]
        return found[::-1] if offset is None else found

    def position_of(self, order_id: str, kind: str) -> int | None:
        """Return where in the ledger the first event of a kind of an order stands."""
        row = self._db.execute(
            "SELECT min(position) FROM history WHERE order_id=? AND kind=?", (order_id, kind)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def _rows(self, kind: type[R], where: str, values: tuple[Any, ...]) -> list[R]:
        query = f"SELECT {', '.join(_names(kind))} FROM {where}"  # noqa: S608 - fixed words
        return [kind(*row) for row in self._db.execute(query, values)]


def _names(kind: type[object]) -> list[str]:
    """Return the columns that a row is made of, in its order."""
    return [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
