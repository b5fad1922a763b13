"""Who is counted, and how many open quotes one holder has."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from api import limits
from api.limits import Limits, RateLimited, client_address
from api.window import WINDOW_SECONDS, Allowance

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


class FakeTransport:
    """Stands for a connection from one address."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self._peer, 5000) if name == "peername" else default

    def is_closing(self) -> bool:
        return False


def seen_as(peer: str, *forwarded: str, proxies: object = PROXIES) -> str:
    """Return the address that a request is counted under."""
    headers = CIMultiDict([("X-Forwarded-For", line) for line in forwarded])
    request = make_mocked_request("POST", "/", headers, transport=FakeTransport(peer))
    return client_address(request, proxies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", [" , "], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.2.3", ["[2001:db8:9:8:7::1]:4711"], "2001:db8:9:8::/64"),
        ("10.1.2.3", ["[2001:db8:9:8:7::1]"], "2001:db8:9:8::/64"),
        ("10.1.2.3", ["6.6.6.6, not-an-address"], "unknown"),
        ("10.1.2.3", ["198.51.100.1, unknown"], "unknown"),
        ("2001:db8:1::7", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:9:8:7:6:5:4", [], "2001:db8:9:8::/64"),
        ("2001:db8:9:8::1", [], "2001:db8:9:8::/64"),
        ("2001:db8:9:9::1", [], "2001:db8:9:9::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("", [], "unknown"),
    ],
)
def test_a_caller_is_known_by_the_nearest_address_that_is_no_proxy_of_ours(
    peer: str, forwarded: list[str], counted: str
) -> None:
    assert seen_as(peer, *forwarded) == counted


def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert seen_as("10.1.2.3", "198.51.100.1", proxies=()) == "10.1.2.3"


def test_no_limit_counts_nothing() -> None:
    counted = Limits(per_minute=0, max_open_quotes=0)
    for number in range(1000):
        assert counted.count_write("203.0.113.9") is None
        counted.hold_quote(str(number), {"wallet": 1000}, 60)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limits_: Limits, address: str) -> Allowance:
    allowance = limits_.count_write(address)
    assert allowance is not None
    return allowance


def test_writes_are_counted_per_address_and_what_is_left_is_said() -> None:
    counted = Limits(per_minute=2, max_open_quotes=0, clock=Hand())

    assert taken(counted, "203.0.113.9") == Allowance(2, 1, 60, granted=True)
    assert taken(counted, "203.0.113.9") == Allowance(2, 0, 60, granted=True)
    assert taken(counted, "203.0.113.9") == Allowance(2, 0, 60, granted=False)
    assert taken(counted, "203.0.113.10") == Allowance(2, 1, 60, granted=True)


def test_the_headers_are_those_of_the_draft() -> None:
    assert Allowance(100, 99, 60, granted=True).headers == {
        "RateLimit-Policy": '"writes";q=100;w=60',
        "RateLimit": '"writes";r=99;t=60',
    }


@pytest.mark.parametrize("begun", [0.0, 0.4, 0.999])
def test_a_caller_that_waits_as_told_gets_through_and_one_a_second_early_does_not(
    begun: float,
) -> None:
    clock = Hand()
    clock.now += begun
    counted = Limits(per_minute=3, max_open_quotes=0, clock=clock)
    for _ in range(3):
        assert taken(counted, "203.0.113.9").granted
        clock.now += 0.7
    wait = taken(counted, "203.0.113.9").wait_seconds

    clock.now += wait - 1
    assert not taken(counted, "203.0.113.9").granted
    clock.now += 1
    assert taken(counted, "203.0.113.9").granted


def test_refused_writes_do_not_prolong_the_wait() -> None:
    clock = Hand()
    counted = Limits(per_minute=1, max_open_quotes=0, clock=clock)
    assert taken(counted, "203.0.113.9").granted

    for _ in range(59):
        clock.now += 1
        assert not taken(counted, "203.0.113.9").granted

    clock.now += 1
    assert taken(counted, "203.0.113.9").granted


@given(st.lists(st.floats(0, 200, allow_nan=False), max_size=80), st.integers(1, 6))
def test_no_minute_holds_more_writes_than_the_quota(steps: list[float], quota: int) -> None:
    clock = Hand()
    counted = Limits(per_minute=quota, max_open_quotes=0, clock=clock)
    granted: list[float] = []
    for step in steps:
        clock.now += step / 10
        allowance = taken(counted, "203.0.113.9")
        assert allowance.left == quota - len(within_window(granted, clock.now)) - allowance.granted
        if allowance.granted:
            granted.append(clock.now)

    for moment in granted:
        # Whole seconds are counted, so that a window may be short of a minute by less than one.
        assert sum(moment <= other < moment + WINDOW_SECONDS - 1 for other in granted) <= quota


def within_window(moments: list[float], now: float) -> list[float]:
    return [moment for moment in moments if int(now) - int(moment) < WINDOW_SECONDS]


def test_the_longest_silent_address_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TRACKED_ADDRESSES", 10)
    clock = Hand()
    counted = Limits(per_minute=1, max_open_quotes=0, clock=clock)
    for number in range(1000):
        clock.now += 0.001
        taken(counted, f"address {number}")
        assert not taken(counted, f"address {number}").granted

    assert counted._writes is not None
    assert list(counted._writes._counts) == [f"address {number}" for number in range(990, 1000)]


def full(clock: Hand) -> Limits:
    """Return limits of two open quotes, both taken by one wallet."""
    held = Limits(per_minute=0, max_open_quotes=2, clock=clock)
    held.hold_quote("first", {"wallet": 0, "address": 0}, 60)
    clock.now += 10
    held.hold_quote("second", {"wallet": 0, "other address": 0}, 60)
    return held


def test_a_quote_too_many_is_refused_until_the_oldest_ends() -> None:
    clock = Hand()
    held = full(clock)

    with pytest.raises(RateLimited) as refused:
        held.hold_quote("third", {"wallet": 0, "third address": 0}, 60)

    assert refused.value.retry_after == 50
    clock.now += 50
    held.hold_quote("third", {"wallet": 0, "third address": 0}, 60)


def test_a_released_quote_makes_room_for_both_of_its_holders() -> None:
    held = full(Hand())
    held.hold_quote("of the address", {"address": 0}, 60)
    with pytest.raises(RateLimited):
        held.hold_quote("third", {"address": 0}, 60)

    held.release_quote("first")

    held.hold_quote("third", {"wallet": 0, "address": 0}, 60)


def test_a_refused_quote_takes_no_place_of_its_other_holder() -> None:
    held = full(Hand())
    for _ in range(5):
        with pytest.raises(RateLimited):
            held.hold_quote("third", {"address of another": 0, "wallet": 0}, 60)

    held.hold_quote("one", {"address of another": 0}, 60)
    held.hold_quote("two", {"address of another": 0}, 60)


def test_what_the_views_know_counts_after_a_restart() -> None:
    held = Limits(per_minute=0, max_open_quotes=2, clock=Hand())

    with pytest.raises(RateLimited):
        held.hold_quote("third", {"wallet": 2}, 60)

    held.hold_quote("third", {"wallet": 1}, 60)


def test_an_unknown_quote_can_be_released() -> None:
    Limits(per_minute=0, max_open_quotes=2).release_quote("nobody's")


def test_memory_is_bounded_and_what_ended_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TRACKED_ADDRESSES", 10)
    clock = Hand()
    held = Limits(per_minute=0, max_open_quotes=2, clock=clock)

    for number in range(1000):
        clock.now += 1
        held.hold_quote(f"order {number}", {"wallet of many": 0, f"address {number}": 0}, 1)

    assert len(held._quotes) == 10
    assert len(held._holders) <= 10


def test_forgetting_an_address_leaves_the_wallets_quotes_releasable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_TRACKED_ADDRESSES", 2)
    held = Limits(per_minute=0, max_open_quotes=2, clock=Hand())
    held.hold_quote("first", {"address": 0, "wallet": 0}, 60)
    held.hold_quote("second", {"other address": 0, "wallet": 0}, 60)

    held.release_quote("first")

    held.hold_quote("third", {"wallet": 0}, 60)
