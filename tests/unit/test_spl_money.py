"""Every cent price up to 100.00, paid as the SDK signs it: taken, and split without a rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.market_money import PaymentMethod, Split, due_micros, split
from ledger.spl import read_header, verify_transfer
from ledger.values import usdc_number
from tests.support.solana import USDC, sdk_micros, signed_payment, wallet_named

CLIENT = wallet_named("client")
RECIPIENT = str(wallet_named("shop").pubkey())
BLOCKHASH = RECIPIENT
COMMISSION_BPS = 1000
CENT = 10_000
CENT_PRICES = [cents * CENT for cents in range(1, 10_001)]

MICROS = st.integers(0, 2**63)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "short_ones"), [("USDC", 151), ("ATHR", 1481)])
def test_every_cent_price_is_paid_and_split(method: PaymentMethod, short_ones: int) -> None:
    short = 0
    for price in CENT_PRICES:
        shown = float(usdc_number(price))
        signs_for = shown * 0.75 if method == "ATHR" else shown
        header = read_header(signed_payment(CLIENT, RECIPIENT, USDC, signs_for, BLOCKHASH))
        due = due_micros(price, method)

        paid = verify_transfer(
            header.transaction, mint=USDC, recipient_wallet=RECIPIENT, due_micros=due
        )

        assert paid.amount == header.value == sdk_micros(shown, method)
        assert due - paid.amount in {0, 1}
        parts = split(paid.amount, COMMISSION_BPS)
        assert parts.commission == paid.amount // 10
        assert sum(parts) == paid.amount
        short += due - paid.amount
    print(f"{method}: {len(CENT_PRICES)} prices paid, {short} of them one micro short")  # noqa: T201 - figures
    assert short == short_ones


@given(MICROS, st.integers(0, 10_000))
def test_a_split_leaves_nothing_over(amount: int, bps: int) -> None:
    commission, agent = split(amount, bps)

    assert commission + agent == amount
    assert min(commission, agent) >= 0
    # Rounded down: the exact commission is less than one micro more.
    assert 0 <= amount * bps - commission * 10_000 < 10_000


def test_the_ends_of_a_split() -> None:
    assert split(7, 0) == Split(commission=0, agent=7)
    assert split(7, 10_000) == Split(commission=7, agent=0)
    assert split(9, 1000) == Split(commission=0, agent=9)


@given(st.integers(0, 10**13))
def test_what_the_sdk_signs_is_never_more_than_what_is_due(price: int) -> None:
    """Up to ten million USDC, in micros: prices finer than a cent are rounded the same way."""
    for method in ("USDC", "ATHR"):
        due = due_micros(price, method)
        assert due - sdk_micros(float(usdc_number(price)), method) in {0, 1}


def test_what_is_due_with_athr_is_three_quarters_rounded_down() -> None:
    assert [due_micros(price, "ATHR") for price in (0, 1, 2, 3, 4, 150_000)] == [
        0,
        0,
        1,
        2,
        3,
        112_500,
    ]
    assert due_micros(150_000, "USDC") == 150_000
