import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.devchain import BASE, DevChain, encode_call
from scripts.devnode import DevChainError
from tests.support.chain import account_named, funded_account, mining_paused, transfers

USDC = 10**6
PROVIDER = account_named("devchain tests: provider").address


def lower(*logs: tuple[str, str, int]) -> list[tuple[str, str, int]]:
    return [(sender.lower(), receiver.lower(), micros) for sender, receiver, micros in logs]


def block_of(chain: DevChain, tx_hash: str) -> int:
    receipt = chain.receipt(tx_hash)
    assert receipt is not None
    return int(receipt["blockNumber"], 16)


def text_of(chain: DevChain, function: str) -> str:
    call = {"to": chain.usdc_address, "data": encode_call("usdc_like", function)}
    answer = bytes.fromhex(chain.rpc("eth_call", [call, "latest"])[2:])
    return answer[64 : 64 + int.from_bytes(answer[32:64])].decode()


def test_the_chain_says_it_is_base_sepolia_and_holds_the_test_token(chain: DevChain) -> None:
    assert int(chain.rpc("eth_chainId"), 16) == 84532
    assert chain.usdc_address == "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
    assert text_of(chain, "name") == "USDC"


def test_a_mainnet_chain_uses_the_mainnet_name_and_address() -> None:
    with DevChain(chain_id=BASE) as mainnet:
        assert int(mainnet.rpc("eth_chainId"), 16) == 8453
        assert mainnet.usdc_address == "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
        assert text_of(mainnet, "name") == "USD Coin"


def test_a_transfer_moves_the_balance_and_leaves_one_log(chain: DevChain) -> None:
    client = funded_account(chain, "moves the balance", 10 * USDC)
    payee = account_named("moves the balance: payee").address

    tx_hash = chain.transfer(client.key, payee, 4 * USDC)

    assert chain.balance_micros(client.address) == 6 * USDC
    assert chain.balance_micros(payee) == 4 * USDC
    assert transfers(chain.wait_for_receipt(tx_hash)) == lower((client.address, payee, 4 * USDC))


def test_a_transfer_beyond_the_balance_is_reported_as_reverted(chain: DevChain) -> None:
    client = funded_account(chain, "beyond the balance", 1 * USDC)

    with pytest.raises(DevChainError, match="reverted"):
        chain.transfer(client.key, PROVIDER, 2 * USDC)

    assert chain.balance_micros(client.address) == 1 * USDC


def test_two_transfers_in_one_transaction_leave_two_logs_in_order(chain: DevChain) -> None:
    client = funded_account(chain, "two in one", 10 * USDC)
    other = account_named("two in one: other").address

    tx_hash = chain.transfer_many_in_one_tx(client.key, [(PROVIDER, 3 * USDC), (other, 2 * USDC)])

    receipt = chain.wait_for_receipt(tx_hash)
    assert receipt["to"] != chain.usdc_address.lower()
    assert transfers(receipt) == lower(
        (client.address, PROVIDER, 3 * USDC), (client.address, other, 2 * USDC)
    )


def test_transfers_from_many_threads_are_all_mined(chain: DevChain) -> None:
    client = funded_account(chain, "many threads", 20 * USDC)
    payee = account_named("many threads: payee").address

    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(lambda _: chain.transfer(client.key, payee, USDC), range(20)))

    assert len(set(hashes)) == 20
    assert chain.balance_micros(payee) == 20 * USDC


def test_a_transaction_stays_pending_while_mining_is_paused(chain: DevChain) -> None:
    client = funded_account(chain, "stays pending", 10 * USDC)

    with mining_paused(chain):
        tx_hash = chain.transfer(client.key, PROVIDER, USDC, wait=False)
        assert chain.receipt(tx_hash) is None
        chain.mine()
        assert chain.receipt(tx_hash) is not None


def test_waiting_while_mining_is_paused_is_refused_at_once(chain: DevChain) -> None:
    client = funded_account(chain, "refused at once", 10 * USDC)

    with mining_paused(chain), pytest.raises(DevChainError, match="automine is off"):
        chain.transfer(client.key, PROVIDER, USDC)

    assert chain.balance_micros(client.address) == 10 * USDC


def test_a_reorg_drops_a_transaction_that_is_not_given_again(chain: DevChain) -> None:
    client = funded_account(chain, "reorg drops", 10 * USDC)
    tx_hash = chain.transfer(client.key, PROVIDER, USDC)
    head = chain.head()

    chain.reorg(1)

    assert chain.head() == head
    assert chain.receipt(tx_hash) is None
    assert chain.balance_micros(client.address) == 10 * USDC


def test_a_reorg_moves_a_transaction_to_another_block(chain: DevChain) -> None:
    client = funded_account(chain, "reorg moves", 10 * USDC)
    tx_hash = chain.transfer(client.key, PROVIDER, USDC)
    before = block_of(chain, tx_hash)
    chain.mine(2)

    chain.reorg(3, [(chain.raw_transaction(tx_hash), 2)])

    assert block_of(chain, tx_hash) == before + 2
    assert chain.balance_micros(client.address) == 9 * USDC


def test_a_reorg_that_changes_the_order_moves_the_log_index(chain: DevChain) -> None:
    first = funded_account(chain, "log index: first", 10 * USDC)
    second = funded_account(chain, "log index: second", 10 * USDC)
    with mining_paused(chain):
        hashes = [chain.transfer(who.key, PROVIDER, USDC, wait=False) for who in (first, second)]
        chain.mine()
    raw = [chain.raw_transaction(tx_hash) for tx_hash in hashes]
    before = chain.wait_for_receipt(hashes[0])["logs"][0]["logIndex"]

    chain.reorg(2, [(raw[1], 0), (raw[0], 0)])

    after = chain.wait_for_receipt(hashes[0])["logs"][0]["logIndex"]
    assert (before, after) == ("0x0", "0x1")


def test_a_reorg_into_the_set_up_is_refused() -> None:
    with DevChain() as fresh, pytest.raises(DevChainError, match="undo the set-up"):
        fresh.reorg(1)


def test_the_token_survives_the_deepest_reorg_allowed() -> None:
    with DevChain() as fresh:
        fresh.mine(3)

        fresh.reorg(3)

        fresh.fund(PROVIDER, USDC)
        assert fresh.balance_micros(PROVIDER) == USDC
        assert text_of(fresh, "name") == "USDC"


def test_safe_and_finalized_lag_by_one_and_two_epochs(chain: DevChain) -> None:
    chain.mine(5)

    lag = {
        tag: chain.head() - int(chain.rpc("eth_getBlockByNumber", [tag, False])["number"], 16)
        for tag in ("safe", "finalized")
    }

    assert lag == {"safe": 2, "finalized": 4}


def test_reverting_to_a_snapshot_undoes_what_came_after(chain: DevChain) -> None:
    client = funded_account(chain, "snapshot", 10 * USDC)
    snapshot = chain.snapshot()
    chain.transfer(client.key, PROVIDER, USDC)

    chain.revert(snapshot)

    assert chain.balance_micros(client.address) == 10 * USDC
    with pytest.raises(DevChainError, match="no snapshot"):
        chain.revert(snapshot)


def test_the_clock_can_be_moved_ahead_and_set() -> None:
    with DevChain() as own:
        start = own.head_time()
        own.increase_time(3600)
        own.mine()
        assert own.head_time() >= start + 3600

        own.set_next_block_timestamp(start + 10_000)
        own.mine()
        assert own.head_time() == start + 10_000


@pytest.mark.slow
def test_a_chain_that_mines_by_the_clock_can_be_waited_for() -> None:
    with DevChain(block_time_seconds=1) as own:
        own.fund(PROVIDER, USDC, eth_wei=0)

        assert own.balance_micros(PROVIDER) == USDC


def test_a_chain_started_in_a_thread_outlives_that_thread() -> None:
    started: list[DevChain] = []
    thread = threading.Thread(target=lambda: started.append(DevChain()))
    thread.start()
    thread.join()

    with started[0] as own:
        assert own.head() == 1


def test_a_stopped_chain_answers_no_more() -> None:
    with DevChain() as own:
        pass

    with pytest.raises(DevChainError, match="does not answer"):
        own.head()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_anvil_does_not_outlive_the_program_that_started_it(how: signal.Signals) -> None:
    command = [sys.executable, "-m", "scripts.devchain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout is not None
        lines = iter(foreground.stdout.readline, "Ctrl-C ends the chain.\n")
        shown = dict(line.split(maxsplit=1) for line in lines if not line.startswith(" "))
        anvil = os.pidfd_open(int(shown["process"].removeprefix("id")))

        foreground.send_signal(how)

        ended, _, _ = select.select([anvil], [], [], 10)
        os.close(anvil)
        assert ended == [anvil]
    assert foreground.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 0)
