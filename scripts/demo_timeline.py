"""Part 4: what each step of the order proves, and what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.table import Table

from ledger.entry import SignedEvent
from scripts.demo_order import Played
from scripts.demo_say import checked, expect, heading, short, show
from scripts.demo_stage import Stage

PROVES: Final[Mapping[str, tuple[str, str, str]]] = {
    "quoted": ("provider", "these terms were offered", "that anybody accepted them"),
    "expired": ("provider", "a block past the deadline, no payment seen", "that nothing was sent"),
    "paid": ("chain, read by provider", "enough was transferred in time", "that it is final"),
    "processing": ("provider", "work began", "that it goes on"),
    "ready": ("provider", "it holds bytes with this SHA-256", "quality, or that anybody has them"),
    "posted": ("provider", "the client's endpoint answered 2xx", "that the client kept the bytes"),
    "delivered": ("provider", "the bytes were handed out whole", "who fetched them"),
    "delivery_failed": ("provider", "push or handler gave up", "that the client is owed nothing"),
    "confirmed": ("client", "the client signed for the delivery", "that the client is content"),
    "disputed": ("client", "the client signed a complaint", "that the complaint is right"),
    "refunded": ("chain, read by provider", "all money received went back", "who was right"),
}
"""Status: who vouches, what it proves, what it does not prove. The README's table is this one."""

BESIDE: Final[Mapping[str, tuple[str, str]]] = {
    "payment_claimed": ("the client says, signed, that it paid", "that it did"),
    "payment_finalized": ("the payment's block is final", "anything about the work"),
}
"""The last two of events that change no status, as far as an order of the demo has them."""


def show_timeline(stage: Stage, played: Played) -> None:
    """Print the order's events and compare them with what the client holds."""
    heading("4. The order's timeline: what each step proves", "timeline")
    events = stage.entries_of(played.order_id)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("pos", justify="right", no_wrap=True)
    table.add_column("status", style="bold", no_wrap=True)
    table.add_column("signatures", overflow="fold")
    table.add_column("tx", no_wrap=True)
    table.add_column("proves", overflow="fold")
    table.add_column("does not prove", overflow="fold")
    for position, event in events:
        kind = event.event.kind
        words = PROVES[kind][1:] if kind in PROVES else BESIDE.get(kind, ("see docs/events.md", ""))
        table.add_row(str(position), kind, _signatures(event), _tx(event), *words)
    show(table)
    stored = {position: event.entry for position, event in events}
    same = all(stored.get(p.position) == p.event.entry for p in played.proven)
    expect(same, "the ledger holds what the client was given, byte for byte")
    checked(f"{len(events)} events; the {len(played.proven)} in the client's hand are the same")


def _signatures(event: SignedEvent) -> str:
    """Return whose signatures are in it: the provider's on every entry, some with the client's."""
    body = event.event.body()
    texts = (body.get("client"), body.get("notice"))
    has_text = any(isinstance(text, Mapping) for text in texts)
    return "client, provider" if has_text else "provider"


def _tx(event: SignedEvent) -> str:
    body = event.event.body()
    transfers = body.get("transfers")
    if isinstance(transfers, list) and transfers:
        return short(str(transfers[0]["tx_hash"]), 6, 4)
    return ""
