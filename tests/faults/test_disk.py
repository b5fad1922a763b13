import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from scripts.buyer import Answer, Buyer
from tests.support.faults import Record, audit, copy_of
from tests.support.load import Acknowledged
from tests.support.service import Service
from tests.unit.builders import CLIENT

ROUNDS = 5
AT_ONCE = 8
REFUSED = {"SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    service.start()
    yield service
    service.stop()


@pytest.fixture
async def buyer(service: Service) -> AsyncIterator[Buyer]:
    async with aiohttp.ClientSession() as session:
        yield Buyer(session, service.url, "0x" + CLIENT.secret.hex())


def limit_files(service: Service, size_bytes: int) -> None:
    """Let no file of the running process grow above a size; -1 takes the limit away."""
    assert service._process is not None
    limits = (size_bytes, resource.RLIM_INFINITY)
    resource.prlimit(service._process.pid, resource.RLIMIT_FSIZE, limits)


async def quotes(buyer: Buyer) -> list[Answer]:
    return await asyncio.gather(
        *(buyer.request("text_echo", "words " * 50) for _ in range(AT_ONCE))
    )


@pytest.mark.slow
async def test_a_disk_that_takes_no_more_loses_nothing_and_is_used_again_once_it_does(
    service: Service, buyer: Buyer, tmp_path: Path
) -> None:
    wal = service.data_dir / "ledger.db-wal"
    promised: list[Acknowledged] = []
    refused = 0
    for _ in range(ROUNDS):
        promised += [_noted(answer) for answer in await quotes(buyer)]
        limit_files(service, wal.stat().st_size + 3 * 8192)
        answers = [answer for _ in range(8) for answer in await quotes(buyer)]
        accepted = [answer for answer in answers if answer.status == 200]
        failed = [answer for answer in answers if answer.status != 200]
        assert failed
        assert {(a.status, a.body["error"] in REFUSED) for a in failed} == {(503, True)}, failed
        promised += [_noted(answer) for answer in accepted]
        refused += len(failed)
        limit_files(service, resource.RLIM_INFINITY)
        promised += [_noted(answer) for answer in await quotes(buyer)]

    service.kill()
    record, copy = Record(), copy_of(service, tmp_path / "copy")
    record.read(copy)
    audit(copy)
    print(  # noqa: T201 - the figures are the result
        f"rounds {ROUNDS}, refused {refused}, acknowledged {len(promised)},"
        f" present {record.present(promised)}"
    )
    assert record.present(promised) == len(promised)


def _noted(answer: Answer) -> Acknowledged:
    body = answer.require(200)
    ledger = body["ledger"]
    assert isinstance(ledger, dict)
    assert answer.ledger_head is not None
    order_id = str(body["order_id"])
    return Acknowledged(order_id, "request", ledger["position"], ledger["leaf"], answer.ledger_head)
