"""Asks for the token's logs over a range of blocks. A log found here is a hint, not a fact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.chain_answers import Block, ScannedLog, block_call, parsed, unavailable
from ledger.chain_quorum import Tips, agreed_blocks, lowest
from ledger.chain_transfers import TransferLogs, Way
from ledger.rpc import Call, RpcEndpoint


@dataclass(frozen=True, slots=True)
class Span:
    """Blocks from `first` to `last`; None: to whatever the node's newest block is."""

    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One Transfer log as a range listed it: worth a look at its receipt."""

    way: Way
    tx_hash: str
    block_number: int
    block_hash: str
    log_index: int
    sender: str
    recipient: str
    amount: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep saw: the tips of the same answer, the asked blocks where known, the logs."""

    tips: Tips
    blocks: Mapping[int, Block]
    glimpses: frozenset[Glimpse] = field(default_factory=frozenset)


async def ask_sweep(
    span: Span | None,
    marks: Sequence[int],
    logs: TransferLogs,
    require_chain: Callable[[object], None],
    endpoint: RpcEndpoint,
) -> Swept:
    """Ask one node in one request: its logs then reach as far as the head of the same answer."""
    heights = [block_call(number) for number in marks]
    ranges = [(way, _logs_call(span, logs, way)) for way in Way] if span is not None else []
    chain_id, raw_head, raw_safe, *raw = await endpoint.batch(
        [
            ("eth_chainId", []),
            block_call("latest"),
            block_call("safe"),
            *heights,
            *(call for _, call in ranges),
        ],
        optional=(2,),
    )
    require_chain(chain_id)
    head = parsed(Block, raw_head)
    safe = parsed(Block, raw_safe) if raw_safe is not None else None
    if safe is not None and safe.number > head.number:
        raise unavailable("the node's safe block is above its head", "node_lag")
    blocks = [parsed(Block, item) for item in raw[: len(heights)] if item is not None]
    known = {block.number: block for block in blocks}
    if not known.keys() <= set(marks):
        raise unavailable("the node answered with a block of another height", "malformed")
    listed = [
        glimpse
        for (way, _), answer in zip(ranges, raw[len(heights) :], strict=True)
        for glimpse in glimpses_in(answer, logs, way)
    ]
    if span is not None and any(each.block_number < span.first for each in listed):
        raise unavailable("the node lists logs of blocks that it was not asked for", "malformed")
    return Swept(Tips(head, safe, None), known, frozenset(listed))


def whole_sweep(swept: Sequence[Swept], needed: int) -> bool:
    """Whether no further endpoint need be asked."""
    return len(swept) >= needed and not agreed_blocks([s.blocks for s in swept], needed)[1]


def merged_sweep(swept: Sequence[Swept], needed: int) -> tuple[Swept, bool]:
    """Return the sweeps as one, and whether their blocks differ: every log, the lowest tips."""
    blocks, differ = agreed_blocks([each.blocks for each in swept], needed)
    glimpses = frozenset[Glimpse]().union(*(each.glimpses for each in swept))
    return Swept(lowest(each.tips for each in swept), blocks, glimpses), differ


def _logs_call(span: Span, logs: TransferLogs, way: Way) -> Call:
    last = "latest" if span.last is None else hex(span.last)
    return ("eth_getLogs", [{"fromBlock": hex(span.first), "toBlock": last, **logs.filter(way)}])


def glimpses_in(raw: object, logs: TransferLogs, way: Way) -> list[Glimpse]:
    """Return the transfers that a node's list of logs shows."""
    if not isinstance(raw, list):
        raise unavailable("the node's answer is no list of logs", "malformed")
    found = []
    for log in (parsed(ScannedLog, item) for item in raw):
        moved = logs.moved(log, way)
        if moved is not None:
            found.append(
                Glimpse(
                    way,
                    log.transaction_hash,
                    log.block_number,
                    log.block_hash,
                    log.log_index,
                    moved.sender,
                    moved.recipient,
                    moved.amount,
                )
            )
    return found
