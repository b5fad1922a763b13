"""What the chain client makes of answers: good, malformed, missing, and of the wrong chain."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer, unused_port
from eth_utils.crypto import keccak

from ledger.chain import TRANSFER_TOPIC, Chain
from ledger.chain_answers import Block
from ledger.chain_head import NewestBlock
from ledger.entry import Beacon
from ledger.errors import ChainUnavailable, InvalidInput, Misconfigured
from ledger.finding import ChainView, Finding
from ledger.rpc import RpcEndpoint, RpcPool

Json = dict[str, Any]
Change = Callable[[Json], object]

TX, BLOCK_HASH, OTHER_HASH = "0x" + "aa" * 32, "0x" + "bb" * 32, "0x" + "cc" * 32
TOKEN, PAYEE, PAYER = ("0x" + digit * 40 for digit in "123")
KEY = "s3cretAccessKey"
HEAD, SAFE, FINALIZED = 100, 90, 80


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def word(value: int) -> str:
    return f"0x{value:064x}"


def log(index: int = 7, **changes: object) -> Json:
    good = {
        "address": TOKEN,
        "topics": [TRANSFER_TOPIC, topic(PAYER), topic(PAYEE)],
        "data": word(5_000_000),
        "logIndex": hex(index),
        "transactionHash": TX,
        "blockHash": BLOCK_HASH,
        "removed": False,
    }
    return good | changes


def block(number: int) -> Json:
    digest = BLOCK_HASH if number == HEAD else word(number)
    return {"number": hex(number), "hash": digest, "timestamp": hex(1_700_000_000 + number)}


def bloom(logs: object) -> str:
    """Return the filter of logs bit by bit, as the protocol's paper has it; of nonsense, none."""
    bits = bytearray(256)
    try:
        values = [v for each in logs for v in (each["address"], *each["topics"])]  # type: ignore[attr-defined]
        hashes = [keccak(hexstr=value) for value in values]
    except (TypeError, KeyError, ValueError):
        hashes = []
    for digest in hashes:
        for pair in (digest[0:2], digest[2:4], digest[4:6]):
            bit = int.from_bytes(pair) & 2047
            bits[255 - bit // 8] |= 1 << (bit % 8)
    return "0x" + bits.hex()


class FakeNode:
    """An endpoint on 127.0.0.1 whose answers a test changes before it asks."""

    def __init__(self) -> None:
        self.receipt: Json | None = {
            "transactionHash": TX,
            "blockHash": BLOCK_HASH,
            "blockNumber": hex(HEAD),
            "status": "0x1",
            "logs": [log()],
        }
        self.chain_id: object = "0x14a34"
        self.tips: Json = {
            "latest": block(HEAD),
            "safe": block(SAFE),
            "finalized": block(FINALIZED),
        }
        self.change_items: Callable[[list[Json]], object] = lambda items: items
        self.raw: tuple[bytes, int] | None = None
        self.requests = 0
        self.filters_receipts = True
        """Whether a receipt without a filter of its logs gets the right one."""
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        items = [self.item(call) for call in orjson.loads(await request.read())]
        if self.raw is not None:
            headers = {"Location": self.url}
            return web.Response(body=self.raw[0], status=self.raw[1], headers=headers)
        return web.Response(body=orjson.dumps(self.change_items(items)))

    def item(self, call: Json) -> Json:
        result: object = self.chain_id
        if call["method"] == "eth_getTransactionReceipt":
            result = self.receipt
        elif call["method"] == "eth_getBlockByNumber":
            tag = call["params"][0]
            result = self.tips[tag] if tag in self.tips else block(int(tag, 16))
        if result is self.receipt and isinstance(result, dict) and self.filters_receipts:
            result = {"logsBloom": bloom(result.get("logs")), **result}
        if isinstance(result, dict) and "error" in result:
            return {"jsonrpc": "2.0", "id": call["id"], **result}
        return {"jsonrpc": "2.0", "id": call["id"], "result": result}


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def started() -> tuple[FakeNode, TestServer]:
    node, app = FakeNode(), web.Application()
    app.router.add_post(f"/v2/{KEY}", node.answer)
    server = TestServer(app)
    await server.start_server()
    node.url = str(server.make_url(f"/v2/{KEY}"))
    return node, server


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    node, server = await started()
    yield node
    await server.close()


second = node


def chain_on(
    *endpoints: RpcEndpoint, confirmations: int = 1, safe_above: int | None = None
) -> Chain:
    return Chain(
        RpcPool(endpoints),
        chain_id=84532,
        token=TOKEN,
        payment_address=PAYEE,
        min_confirmations=confirmations,
        safe_above_micros=safe_above,
    )


async def look(node: FakeNode, session: ClientSession, **policy: int) -> Finding:
    return await chain_on(RpcEndpoint(node.url, session), **policy).lookup(TX)


async def failure(endpoint: RpcEndpoint) -> ChainUnavailable:
    with pytest.raises(ChainUnavailable) as caught:
        await endpoint.batch([("eth_chainId", [])])
    return caught.value


async def test_a_payment_is_read_from_one_request(node: FakeNode, session: ClientSession) -> None:
    finding = await look(node, session)

    [transfer] = finding.transfers
    assert (finding.view, finding.depth, finding.finality) == (ChainView.MINED, 1, "sealed")
    assert (finding.head_number, finding.head_time) == (HEAD, 1_700_000_100)
    assert finding.safe_time == 1_700_000_090
    assert transfer.key == ("eip155:84532", TX, 0)
    assert (transfer.sender, transfer.recipient, transfer.amount) == (PAYER, PAYEE, 5_000_000)
    assert (transfer.log_index, transfer.block_hash) == (7, BLOCK_HASH)
    assert transfer.block_time == 1_700_000_100
    assert node.requests == 1


BAD_NUMBERS: list[object] = [None, 100, "100", "0x", "-0x1", "0x6_4", hex(2**53), "0x6٤"]
BAD_LOGS: list[object] = [None, {}, "0x", [None], [[]]]
MALFORMED_RECEIPTS: list[Json] = [
    *({"transactionHash": bad} for bad in (OTHER_HASH, None, 5, TX[:-2])),
    *({"blockHash": bad} for bad in ("0x", 7, BLOCK_HASH + "00", "0x" + "g" * 64)),
    *({"blockNumber": bad} for bad in BAD_NUMBERS),
    *({"status": bad} for bad in (None, 1, True, "0x2", "0x", "1")),
    *({"logs": bad} for bad in BAD_LOGS),
    *({"logs": [log() | {name: None}]} for name in log()),
    *({"logs": [log(data=bad)]} for bad in ("0x", word(1)[:-2], word(1) + "00", word(10**30))),
    *({"logs": [log(data=word(bad))]} for bad in (2**127 + 1, 2**256 - 1)),
    {"logs": [log(topics=[TRANSFER_TOPIC, "0x1" + "0" * 23 + PAYER[2:], topic(PAYEE)])]},
    {"logs": [log(topics=[TRANSFER_TOPIC, topic(PAYER), "0x" + "f" * 24 + PAYEE[2:]])]},
    {"logs": [log(topics=[TRANSFER_TOPIC, PAYER, topic(PAYEE)])]},
    {"logs": [log(blockHash=OTHER_HASH)]},
    {"logs": [log(transactionHash=OTHER_HASH)]},
    {"logs": [log(removed="false")]},
    {"logs": [log(7), log(9)]},
    {"logs": [log(8), log(7)]},
    {"logs": [log(7), log(7)]},
]


@pytest.mark.parametrize("change", MALFORMED_RECEIPTS, ids=str)
async def test_a_malformed_receipt_is_no_fact(
    node: FakeNode, session: ClientSession, change: Json
) -> None:
    node.receipt = {**(node.receipt or {}), **change}

    finding = await look(node, session)

    assert (finding.view, finding.transfers) == (ChainView.UNAVAILABLE, ())
    assert finding.detail


@pytest.mark.parametrize("answer", [[], "0x", 0, True, {}], ids=str)
@pytest.mark.parametrize("tag", ["receipt", "latest", "safe", "finalized"])
async def test_an_answer_of_the_wrong_type_is_no_fact(
    node: FakeNode, session: ClientSession, tag: str, answer: object
) -> None:
    if tag == "receipt":
        node.receipt = answer  # type: ignore[assignment]
    else:
        node.tips[tag] = answer

    assert (await look(node, session)).view is ChainView.UNAVAILABLE


def without_logs(receipt: Json) -> None:
    receipt["logs"] = []


def without_the_last_log(receipt: Json) -> None:
    receipt["logs"].pop()


def of_another_topic(receipt: Json) -> None:
    receipt["logs"][0]["topics"][1] = topic(PAYEE)


def without_filter(receipt: Json) -> None:
    del receipt["logsBloom"]


def half_a_filter(receipt: Json) -> None:
    receipt["logsBloom"] = receipt["logsBloom"][: 2 + 256]


def other_filter(receipt: Json) -> None:
    receipt["logsBloom"] = "0x" + "00" * 256


@pytest.mark.parametrize(
    "lie",
    [
        without_logs,
        without_the_last_log,
        of_another_topic,
        without_filter,
        half_a_filter,
        other_filter,
    ],
)
async def test_a_receipt_whose_logs_do_not_fit_its_filter_is_no_fact(
    node: FakeNode, session: ClientSession, lie: Change
) -> None:
    other = log(8, topics=[OTHER_HASH], address=PAYER)
    receipt = (node.receipt or {}) | {"logs": [log(7), other]}
    node.receipt = receipt | {"logsBloom": bloom(receipt["logs"])}
    assert (await look(node, session)).view is ChainView.MINED

    node.filters_receipts = False
    lie(node.receipt)

    finding = await look(node, session)
    assert (finding.view, finding.transfers) == (ChainView.UNAVAILABLE, ())


NO_PAYMENT: list[Json] = [
    {"address": PAYER},
    {"topics": []},
    {"topics": [OTHER_HASH, topic(PAYER), topic(PAYEE)]},
    {"topics": [TRANSFER_TOPIC, topic(PAYER), topic(PAYER)]},
    {"topics": [TRANSFER_TOPIC, topic(PAYER), topic(PAYEE), word(5)]},
    {"data": word(0)},
    {"removed": True},
]


@pytest.mark.parametrize("change", NO_PAYMENT, ids=str)
async def test_other_logs_pay_nothing_but_count_for_the_ordinal(
    node: FakeNode, session: ClientSession, change: Json
) -> None:
    assert node.receipt is not None
    node.receipt["logs"] = [log(7, **change), log(8), log(9, **change), log(10, data=word(1))]

    finding = await look(node, session)

    assert finding.view is ChainView.MINED
    assert [(t.ordinal, t.log_index) for t in finding.transfers] == [(1, 8), (3, 10)]


def at_block(number: int) -> Change:
    """Move the receipt to a block that is canonical."""

    def change(receipt: Json) -> None:
        digest = block(number)["hash"]
        receipt |= {
            "blockNumber": hex(number),
            "blockHash": digest,
            "logs": [log(blockHash=digest)],
        }

    return change


@pytest.mark.parametrize(
    ("change", "policy", "view", "finality", "requests"),
    [
        (at_block(98), {"confirmations": 3}, ChainView.MINED, "sealed", 2),
        (at_block(99), {"confirmations": 3}, ChainView.SHALLOW, "sealed", 2),
        (lambda r: r.update(status="0x0"), {"confirmations": 3}, ChainView.SHALLOW, "sealed", 1),
        (lambda r: r.update(status="0x0", logs=[]), {}, ChainView.REVERTED, "sealed", 1),
        (at_block(91), {"safe_above": 4_999_999}, ChainView.SHALLOW, "sealed", 2),
        (at_block(91), {"safe_above": 5_000_000}, ChainView.MINED, "sealed", 2),
        (at_block(SAFE), {"safe_above": 0}, ChainView.MINED, "safe", 1),
        (at_block(85), {"safe_above": 0}, ChainView.MINED, "safe", 2),
        (at_block(FINALIZED), {}, ChainView.MINED, "finalized", 1),
        (at_block(HEAD + 1), {}, ChainView.UNAVAILABLE, "sealed", 1),
        (lambda r: r.update(blockHash=OTHER_HASH, logs=[]), {}, ChainView.NOT_FOUND, "sealed", 1),
        (lambda r: r.update(blockHash=None, logs=[]), {}, ChainView.NOT_FOUND, "sealed", 1),
        (lambda r: r.update(blockNumber="0x5f", logs=[]), {}, ChainView.NOT_FOUND, "sealed", 2),
    ],
)
async def test_depth_and_finality_decide_the_view(
    node: FakeNode,
    session: ClientSession,
    change: Change,
    policy: dict[str, int],
    view: ChainView,
    finality: str,
    requests: int,
) -> None:
    assert node.receipt is not None
    change(node.receipt)

    finding = await look(node, session, **policy)

    assert (finding.view, finding.finality, node.requests) == (view, finality, requests)
    assert bool(finding.transfers) == (view in (ChainView.MINED, ChainView.SHALLOW)) * (
        node.receipt["status"] == "0x1"
    )


@pytest.mark.parametrize("unknown", [None, {"error": {"code": -32602, "message": "bad tag"}}])
async def test_a_node_without_finality_tags_still_works(
    node: FakeNode, session: ClientSession, unknown: Json | None
) -> None:
    node.tips |= {"safe": unknown, "finalized": unknown}

    assert (await look(node, session)).finality == "sealed"
    large = await look(node, session, safe_above=0)
    assert (large.view, large.safe_time) == (ChainView.SHALLOW, 0)


@pytest.mark.parametrize("tag", ["latest", "safe"])
async def test_a_throttled_item_is_no_answer_even_where_errors_are_tolerated(
    node: FakeNode, session: ClientSession, tag: str
) -> None:
    node.tips[tag] = {"error": {"code": -32005, "message": "limit exceeded"}}

    assert (await look(node, session)).view is ChainView.UNAVAILABLE


async def test_a_safe_block_above_the_head_is_no_fact(
    node: FakeNode, session: ClientSession
) -> None:
    node.tips["safe"] = block(HEAD + 1)
    assert (await look(node, session)).view is ChainView.UNAVAILABLE


async def test_a_canonical_block_of_another_height_is_no_fact(
    node: FakeNode, session: ClientSession
) -> None:
    assert node.receipt is not None
    at_block(95)(node.receipt)
    node.tips["0x5f"] = block(96)
    assert (await look(node, session)).view is ChainView.UNAVAILABLE


def error_body(code: int) -> bytes:
    return orjson.dumps({"id": None, "error": {"code": code, "message": f"no, {KEY}"}})


FAULTS: list[tuple[bytes, int, str]] = [
    (b"", 200, "malformed"),
    (b"<html>busy</html>", 200, "malformed"),
    (b'[{"id":1,"result":"0x14a34"', 200, "malformed"),
    (b"\xff\xfe", 200, "malformed"),
    (b"[" * 900, 200, "malformed"),
    (b'{"id":1,"result":"0x14a34"}', 200, "malformed"),
    (b"null", 200, "malformed"),
    (b'[{"id":true,"result":"0x14a34"}]', 200, "malformed"),
    (b'[{"id":1.0,"result":"0x14a34"}]', 200, "malformed"),
    (b'[{"id":1}]', 200, "malformed"),
    (b"[7]", 200, "malformed"),
    (b" " * 1001, 200, "oversized"),
    (error_body(-32600), 200, "rpc_error"),
    (error_body(-32005), 200, "throttled"),
    (b"[" + error_body(-32601).replace(b"null", b"1") + b"]", 200, "rpc_error"),
    (b"[" + error_body(429).replace(b"null", b"1") + b"]", 200, "throttled"),
    (b"slow down", 429, "throttled"),
    *((KEY.encode(), status, "status") for status in (302, 307, 401, 403, 500, 503)),
]


@pytest.mark.parametrize(("body", "status", "reason"), FAULTS, ids=range(len(FAULTS)))
async def test_a_faulty_answer_is_named_without_the_key(
    node: FakeNode, session: ClientSession, body: bytes, status: int, reason: str
) -> None:
    node.raw = (body, status)

    error = await failure(RpcEndpoint(node.url, session, max_answer_bytes=1000))

    assert error.details["reason"] == reason
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error.details)
    assert KEY not in told
    assert error.__cause__ is None
    assert error.__context__ is None


CHANGED_ITEMS: list[Callable[[list[Json]], list[Json]]] = [
    lambda items: items[1:],
    lambda items: [*items, items[0]],
    lambda items: [*items, items[0] | {"id": 99}],
    lambda items: [items[0], items[0]],
    lambda items: [items[0], items[1] | {"id": 99}],
    lambda items: [items[0], items[1] | {"id": str(items[1]["id"])}],
]


@pytest.mark.parametrize("change", CHANGED_ITEMS, ids=range(len(CHANGED_ITEMS)))
async def test_missing_extra_and_doubled_ids_are_refused(
    node: FakeNode, session: ClientSession, change: Callable[[list[Json]], object]
) -> None:
    node.change_items = change
    with pytest.raises(ChainUnavailable) as caught:
        await RpcEndpoint(node.url, session).batch([("eth_chainId", [])] * 2)
    assert caught.value.details["reason"] == "malformed"


async def test_answers_in_any_order_are_put_in_order(
    node: FakeNode, session: ClientSession
) -> None:
    node.change_items = lambda items: items[::-1]
    assert (await look(node, session)).view is ChainView.MINED


async def test_an_answer_to_an_earlier_batch_is_refused(
    node: FakeNode, session: ClientSession
) -> None:
    endpoint = RpcEndpoint(node.url, session)
    await endpoint.batch([("eth_chainId", [])])
    node.raw = (b'[{"id":1,"result":"0x1"}]', 200)
    assert (await failure(endpoint)).details["reason"] == "malformed"


async def test_nobody_listening_is_unavailable_and_names_no_key(session: ClientSession) -> None:
    url = f"http://user:{KEY}@127.0.0.1:{unused_port()}/v2/{KEY}?key={KEY}"
    error = await failure(RpcEndpoint(url, session))
    assert error.details["reason"] == "connection"
    assert KEY not in "".join(traceback.format_exception(error)) + repr(RpcEndpoint(url, session))


async def test_a_connection_closed_before_its_reuse_is_asked_once_more(
    session: ClientSession,
) -> None:
    node, app, seen = FakeNode(), web.Application(), []

    async def closes_first(request: web.Request) -> web.Response:
        seen.append(request)
        if len(seen) == 1 and request.transport is not None:
            request.transport.close()
        return await node.answer(request)

    app.router.add_post("/", closes_first)
    async with TestServer(app) as server:
        endpoint = RpcEndpoint(str(server.make_url("/")), session)
        assert await endpoint.batch([("eth_chainId", [])]) == ["0x14a34"]


@pytest.mark.parametrize("url", ["", "node.example", "ftp://a/" + KEY, "http://", "http://[" + KEY])
async def test_a_url_that_is_none_is_refused_without_showing_it(
    url: str, session: ClientSession
) -> None:
    with pytest.raises(Misconfigured) as caught:
        RpcEndpoint(url, session)
    assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_a_silent_node_costs_the_timeout_until_it_is_left_alone(
    session: ClientSession,
) -> None:
    release, app = asyncio.Event(), web.Application()

    async def silent(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    app.router.add_post("/", silent)
    async with TestServer(app) as server:
        endpoint = RpcEndpoint(
            str(server.make_url("/")),
            session,
            timeout_s=0.05,
            failures_before_rest=2,
            clock=lambda: 0.0,
        )
        for _ in range(2):
            assert (await failure(endpoint)).details["reason"] == "timeout"
        assert "left alone" in str(await failure(endpoint))
        release.set()


async def test_a_full_queue_is_no_failure_of_the_endpoint(
    node: FakeNode, session: ClientSession
) -> None:
    endpoint = RpcEndpoint(
        node.url, session, timeout_s=0.05, max_in_flight=1, failures_before_rest=1
    )
    async with endpoint._slots:
        errors = await asyncio.gather(failure(endpoint), failure(endpoint))
    assert [error.details["reason"] for error in errors] == ["busy", "busy"]
    assert await endpoint.batch([("eth_chainId", [])]) == ["0x14a34"]


async def test_an_endpoint_rests_after_failures_and_one_call_tries_it_again(
    node: FakeNode, session: ClientSession
) -> None:
    now = [0.0]
    endpoint = RpcEndpoint(
        node.url, session, failures_before_rest=3, rest_s=2.0, clock=lambda: now[0]
    )
    node.raw = (b"", 429)
    for _ in range(5):
        assert (await failure(endpoint)).details["reason"] == "throttled"
    assert node.requests == 3

    now[0] = 2.0
    await asyncio.gather(failure(endpoint), failure(endpoint))
    assert node.requests == 4

    now[0], node.raw = 4.0, None
    assert await endpoint.batch([("eth_chainId", [])]) == ["0x14a34"]
    assert await endpoint.batch([("eth_chainId", [])]) == ["0x14a34"]


async def test_throttled_items_give_an_endpoint_a_rest_too(
    node: FakeNode, session: ClientSession
) -> None:
    node.chain_id = {"error": {"code": -32005, "message": "limit exceeded"}}
    endpoint = RpcEndpoint(node.url, session, failures_before_rest=2, clock=lambda: 0.0)
    for _ in range(4):
        assert (await failure(endpoint)).details["reason"] == "throttled"
    assert node.requests == 2


async def test_refused_calls_are_no_failures_of_the_endpoint(
    node: FakeNode, session: ClientSession
) -> None:
    node.chain_id = {"error": {"code": -32601, "message": "no such method"}}
    endpoint = RpcEndpoint(node.url, session, failures_before_rest=2)
    for _ in range(4):
        await failure(endpoint)
    assert node.requests == 4


async def test_no_calls_are_no_request(node: FakeNode, session: ClientSession) -> None:
    assert await RpcEndpoint(node.url, session).batch([]) == []
    assert node.requests == 0


async def test_a_missing_receipt_is_sought_at_every_endpoint(
    node: FakeNode, second: FakeNode, session: ClientSession
) -> None:
    both = chain_on(*(RpcEndpoint(each.url, session) for each in (node, second)))

    node.receipt = None
    assert (await both.lookup(TX)).view is ChainView.MINED

    second.raw = (b"", 500)
    assert (await both.lookup(TX)).view is ChainView.UNAVAILABLE

    second.raw, second.receipt = None, None
    finding = await both.lookup(TX)
    assert (finding.view, finding.safe_time) == (ChainView.NOT_FOUND, 1_700_000_090)


@pytest.mark.parametrize("lie", ["0x1", None, 84532, "84532", {"error": {"code": 1}}], ids=repr)
async def test_an_endpoint_of_another_chain_gives_no_fact(
    node: FakeNode, second: FakeNode, session: ClientSession, lie: object
) -> None:
    node.chain_id = lie
    assert (await look(node, session)).view is ChainView.UNAVAILABLE

    both = chain_on(*(RpcEndpoint(each.url, session) for each in (node, second)))
    assert (await both.lookup(TX)).view is ChainView.MINED
    assert await both.genesis_hash() == word(0)


async def test_the_identity_is_refused_confirmed_or_unknown(
    node: FakeNode, second: FakeNode, session: ClientSession
) -> None:
    both = chain_on(*(RpcEndpoint(each.url, session) for each in (node, second)))
    await both.check_identity()

    node.raw = (b"", 500)
    await both.check_identity()

    second.chain_id = "0x1"
    with pytest.raises(Misconfigured, match="serves chain 1, not 84532"):
        await both.check_identity()

    second.raw = node.raw
    with pytest.raises(ChainUnavailable):
        await both.check_identity()


async def test_a_hash_that_is_none_is_the_callers_mistake(
    node: FakeNode, session: ClientSession
) -> None:
    with pytest.raises(InvalidInput):
        await chain_on(RpcEndpoint(node.url, session)).lookup("0x12")


# The newest block, for quotes


async def test_all_who_ask_for_the_newest_block_at_once_are_one_request(
    node: FakeNode, session: ClientSession
) -> None:
    chain = chain_on(RpcEndpoint(node.url, session))

    beacons = await asyncio.gather(*(chain.beacon() for _ in range(50)))

    expected = Beacon(chain="eip155:84532", number=HEAD, hash=BLOCK_HASH)
    assert beacons == [expected] * 50
    assert node.requests == 1
    assert await chain.beacon() == expected
    assert node.requests == 2


async def test_without_an_answer_there_is_no_newest_block(
    node: FakeNode, session: ClientSession
) -> None:
    chain = chain_on(RpcEndpoint(node.url, session))
    node.raw = (b"", 500)
    assert await chain.beacon() is None

    node.raw, node.chain_id = None, "0x1"
    assert await chain.beacon() is None


async def test_a_silent_chain_keeps_nobody_longer_than_the_first_who_asked() -> None:
    asked, released = [0], asyncio.Event()

    async def silent() -> Block:
        asked[0] += 1
        await released.wait()
        return Block.model_validate(block(7))

    newest = NewestBlock(silent, patience_s=0.02)
    assert await asyncio.gather(newest.get(), newest.get()) == [None, None]
    # Their question is still open; who comes now does not wait for it at all.
    assert await newest.get() is None
    assert asked == [1]

    released.set()
    assert newest._under_way is not None
    await newest._under_way
    assert await newest.get() == Block.model_validate(block(7))
    assert asked == [2]


async def test_of_two_endpoints_the_newest_block_is_the_higher_one(
    node: FakeNode, second: FakeNode, session: ClientSession
) -> None:
    both = chain_on(*(RpcEndpoint(each.url, session) for each in (node, second)))
    second.tips["latest"] = block(HEAD - 3)

    beacon = await both.beacon()

    assert beacon is not None
    assert beacon.number == HEAD


async def test_a_pool_without_endpoints_is_refused() -> None:
    with pytest.raises(Misconfigured):
        RpcPool([])
