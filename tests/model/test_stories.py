"""What playing found once, told as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.model.provider import Provider, loops_by_hand
from tests.model.scenes import (
    CONTENT,
    OTHER_CONTENT,
    PRICE,
    accepted,
    accepted_past_due,
    confirmed,
    orphaned,
    refund,
    scene,
)
from tests.model.wire import get

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    with loops_by_hand():
        async with Provider(tmp_path_factory.mktemp("stories")).running() as running:
            yield running


async def test_a_payment_that_comes_back_after_the_refund_is_in_the_books(
    provider: Provider,
) -> None:
    s = await scene(provider)
    await accepted(s)
    lost = s.paid
    assert lost is not None
    await orphaned(s)
    assert (await s.notify(s.payment())).status == 200
    await refund(s)

    provider.mine(lost, blocks=2)
    await provider.turn("payments")

    row = provider.row(s.order_id)
    assert row is not None
    assert (row.status, row.orphaned_micros) == ("refunded", 0)
    assert (row.received_micros, row.held_micros) == (2 * PRICE, PRICE)


async def test_a_dispute_shows_the_word_before_it_although_one_command_made_two(
    provider: Provider,
) -> None:
    s = await scene(provider)
    await accepted_past_due(s)

    await s.done(s.client.dispute(s.order_id))

    status = await s.send(get(f"/ivxp/status/{s.order_id}"))
    assert status.body["status"] == "processing"


async def test_a_receipt_for_other_bytes_is_no_repeat_of_the_first(provider: Provider) -> None:
    s = await scene(provider)
    await confirmed(s)

    other = await s.send(s.client.receipt(s.order_id, OTHER_CONTENT))
    again = await s.send(s.client.receipt(s.order_id, CONTENT))

    assert other.outcome == (409, "CONTENT_HASH_MISMATCH")
    assert (again.status, again.body["status"]) == (200, "confirmed")
