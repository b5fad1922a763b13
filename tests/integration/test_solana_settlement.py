"""From a price to money that moved: signed as the SDK does, verified, submitted, landed."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from solders.compute_budget import set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN

from ledger.errors import PaymentRefused
from ledger.market_money import PaymentMethod, due_micros, split
from ledger.solana_rpc import Landed, SolanaRpc, Submitted
from ledger.spl import read_header, verify_transfer
from ledger.values import usdc_number
from tests.support.solana import (
    SOL,
    USDC,
    LocalSolana,
    signed,
    signed_payment,
    signed_transfer,
    token_account,
    transfer,
    wallet_named,
)

CLIENT, OTHER = wallet_named("client"), wallet_named("other")
OWNER = str(CLIENT.pubkey())
RECIPIENT = str(wallet_named("shop").pubkey())
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
HELD = 100_000_000
PRICE = 2_010_000


@pytest_asyncio.fixture
async def solana() -> AsyncIterator[LocalSolana]:
    async with LocalSolana() as running:
        running.fund(OWNER, HELD)
        running.fund(RECIPIENT)
        yield running


@pytest_asyncio.fixture
async def rpc(solana: LocalSolana) -> AsyncIterator[SolanaRpc]:
    async with aiohttp.ClientSession() as session:
        yield SolanaRpc(solana.url, session)


async def settle(rpc: SolanaRpc, transaction: str, due: int) -> int:
    """Verify, submit and see it land; return the amount that was signed."""
    paid = verify_transfer(transaction, mint=USDC, recipient_wallet=RECIPIENT, due_micros=due)
    assert await rpc.send(paid.transaction) == Submitted(paid.signature)
    assert isinstance(await rpc.status(paid.signature), Landed)
    return paid.amount


@pytest.mark.parametrize(
    ("price", "method", "moved"),
    [
        (PRICE, "USDC", PRICE - 1),
        (PRICE, "ATHR", 1_507_499),
        (150_000, "ATHR", 112_499),
        (250_000, "USDC", 250_000),
    ],
)
async def test_what_the_sdk_signs_moves_what_is_split(
    solana: LocalSolana, rpc: SolanaRpc, price: int, method: PaymentMethod, moved: int
) -> None:
    signs_for = usdc_number(price) * (0.75 if method == "ATHR" else 1)
    header = read_header(signed_payment(CLIENT, RECIPIENT, USDC, signs_for, solana.blockhash))

    amount = await settle(rpc, header.transaction, due_micros(price, method))

    assert amount == moved
    assert (solana.balance(OWNER), solana.balance(RECIPIENT)) == (HELD - moved, moved)
    assert sum(split(amount, 1000)) == moved


async def test_the_recipients_account_may_be_made_on_the_way(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    shop = wallet_named("a shop without an account")
    recipient = str(shop.pubkey())
    accounts = [
        AccountMeta(CLIENT.pubkey(), is_signer=True, is_writable=True),
        AccountMeta(
            Pubkey.from_string(token_account(recipient)), is_signer=False, is_writable=True
        ),
        *(
            AccountMeta(Pubkey.from_string(key), is_signer=False, is_writable=False)
            for key in (recipient, USDC, "1" * 32, str(TOKEN))
        ),
    ]
    creation = Instruction(
        Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"), b"\1", accounts
    )
    pays = transfer(token_account(OWNER), token_account(recipient), OWNER, PRICE)
    transaction = signed([CLIENT], solana.blockhash, set_compute_unit_price(1), creation, pays)

    paid = verify_transfer(transaction, mint=USDC, recipient_wallet=recipient, due_micros=PRICE)
    await rpc.send(paid.transaction)

    assert isinstance(await rpc.status(paid.signature), Landed)
    assert solana.balance(recipient) == PRICE


async def test_a_transfer_among_very_many_instructions_is_refused_before_it_is_recorded(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    """Whoever signs it, nodes do not take it: it would stay open for nothing."""
    pays = transfer(token_account(OWNER), token_account(RECIPIENT), OWNER, PRICE)
    notes = [
        Instruction(Pubkey.from_string(MEMO), str(number).encode(), []) for number in range(16)
    ]

    with pytest.raises(PaymentRefused) as caught:
        await settle(rpc, signed([CLIENT], solana.blockhash, *notes, pays), PRICE)
    assert caught.value.details == {"reason": "instructions"}

    # The machine of the tests has the rules of payments, and not the programs for memos.
    sixteen = signed([CLIENT], solana.blockhash, *notes[:15], pays)
    paid = verify_transfer(sixteen, mint=USDC, recipient_wallet=RECIPIENT, due_micros=PRICE)
    assert paid.amount == PRICE


async def test_another_may_pay_the_fee(solana: LocalSolana, rpc: SolanaRpc) -> None:
    poor = wallet_named("has tokens and no fees")
    owner = str(poor.pubkey())
    solana.fund(owner, PRICE, lamports=0)
    solana.fund(str(OTHER.pubkey()), lamports=SOL)
    pays = transfer(token_account(owner), token_account(RECIPIENT), owner, PRICE)

    await settle(rpc, signed([OTHER, poor], solana.blockhash, pays), PRICE)

    assert (solana.balance(owner), solana.balance(RECIPIENT)) == (0, PRICE)


async def test_a_second_transaction_of_a_retry_is_another_payment(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    """So whoever retries must be answered from the first: two signatures move money twice."""
    first = signed_transfer(CLIENT, RECIPIENT, PRICE, solana.blockhash)
    await settle(rpc, first, PRICE)
    solana.expire_blockhash()

    await settle(rpc, signed_transfer(CLIENT, RECIPIENT, PRICE, solana.blockhash), PRICE)

    assert solana.balance(RECIPIENT) == 2 * PRICE
