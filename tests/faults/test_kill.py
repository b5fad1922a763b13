import asyncio
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

import pytest

from scripts.devchain import DevChain
from tests.support.chain import account_named
from tests.support.faults import (
    Record,
    audit,
    copy_of,
    cpu_seconds,
    kill_while_starting,
    seed,
)
from tests.support.load import Acknowledged, Load
from tests.support.service import Service

ROUNDS = 50
BUYERS = 12
READY_SECONDS = 3.0
"""Two on a machine of its own; here other tests run beside, and the figures are printed."""
IMPORTS = 3.0
"""On a slow machine: how many times what the interpreter takes to import the program."""


@pytest.fixture
def number() -> int:
    return seed()


@pytest.fixture
def payee(number: int) -> str:
    return account_named(f"payee {number}").address


@pytest.fixture
def service(tmp_path: Path, chain: DevChain, payee: str) -> Iterator[Service]:
    service = Service(tmp_path, chain.rpc_url, payment_address=payee)
    yield service
    service.stop()


class Rounds:
    """Starts and kills one service on one data folder, and looks at what each kill left."""

    def __init__(self, service: Service, load: Load) -> None:
        self._service = service
        self._load = load
        self.record = Record()
        self.starts: list[float] = []
        self.start_cpu: list[float] = []
        self.cut_off = 0

    async def start(self) -> None:
        began = time.monotonic()
        await asyncio.to_thread(self._service.start)
        self.starts.append(time.monotonic() - began)
        self.start_cpu.append(cpu_seconds(self._service))

    async def kill(self) -> None:
        self.cut_off += self._load.under_way
        self._service.kill()
        await self._load.down()

    async def inspect(self, copy: Path) -> None:
        """Read and audit the ledger just as the kill left it."""
        await asyncio.to_thread(self._check, copy, list(self._load.acknowledged))

    def _check(self, copy: Path, promised: list[Acknowledged]) -> None:
        self.record.read(copy)
        assert self.record.present(promised) == len(promised)
        assert self.record.doubled() == []
        audit(copy)
        shutil.rmtree(copy.parent)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_fifty_kills_under_load_lose_and_double_no_acknowledged_step(
    service: Service, chain: DevChain, payee: str, number: int, tmp_path: Path
) -> None:
    chance = Random(number)  # noqa: S311 - a reproducible choice
    began = time.monotonic()
    async with Load(chain, payee, buyers=BUYERS, seed=number) as load:
        rounds = Rounds(service, load)
        await rounds.start()
        for each in range(ROUNDS):
            await load.up(service.url)
            await load.more(chance.randint(1, 40))
            # Not only right after an answer: also while the next batch is on its way to the disk.
            await asyncio.sleep(chance.uniform(0, 0.03))
            await rounds.kill()
            copy = copy_of(service, tmp_path / f"round {each}")
            await asyncio.gather(rounds.start(), rounds.inspect(copy))
        await load.up(service.url)
        await load.more(BUYERS)

    assert service.stop() == 0
    copy = copy_of(service, tmp_path / "last")
    rounds.record.read(copy)
    audit(copy)
    present, promised = rounds.record.present(load.acknowledged), len(load.acknowledged)
    doubled = rounds.record.doubled()
    print(  # noqa: T201 - the figures are the result
        f"kills {ROUNDS}, acknowledged {promised}, present {present}, doubled {len(doubled)},"
        f" cut off unanswered {rounds.cut_off}, sent again {load.unanswered},"
        f" orders finished {len(load.finished)}, events {len(rounds.record.leaves)}; start to"
        f" listening: median {median(rounds.starts):.2f} s, max {max(rounds.starts):.2f} s,"
        f" of it on the processor {median(rounds.start_cpu):.2f} s;"
        f" {time.monotonic() - began:.0f} s in all"
    )
    assert present == promised
    assert doubled == []
    assert rounds.cut_off > 0
    assert load.finished
    # Other tests share the processors: what the start itself takes is its own time on them.
    ready = max(READY_SECONDS, IMPORTS * importing_seconds())
    assert min(rounds.starts) < ready
    assert median(rounds.start_cpu) < ready


def importing_seconds() -> float:
    """Return the time on the processor that importing the program takes here and now."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import scripts.cli"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_kills_while_it_starts_leave_a_folder_that_starts(
    service: Service, number: int, tmp_path: Path
) -> None:
    chance = Random(number)  # noqa: S311 - a reproducible choice
    for each in range(12):
        kill_while_starting(service, after_seconds=chance.uniform(0.2, 1.5))
        if each % 4 == 3:
            service.start()
            service.kill()

    service.start()
    service.kill()
    copy = copy_of(service, tmp_path / "copy")
    audit(copy)
    record = Record()
    record.read(copy)
    assert record.kinds["log"]["log_opened"] == 1
    assert record.kinds["log"]["chain_bound"] == 1


def test_the_service_starts_without_the_libraries_of_wallets_and_dev_chains() -> None:
    code = "import sys, scripts.cli; print(*sorted({'web3', 'eth_account'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
