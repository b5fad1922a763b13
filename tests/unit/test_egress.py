"""Which addresses and URLs may be called: by table, by rule, and against the library's opinion."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.egress import (
    ANYWHERE,
    PUBLIC,
    Address,
    TargetBlocked,
    parse_target,
    require_public,
)

PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.88.98.255",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.114.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "3ffe::1",
]

NOT_PUBLIC = {
    "unspecified": ["0.0.0.0", "0.255.255.255", "::"],  # noqa: S104 - not listened on
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd00::1"],
    "link-local": ["169.254.0.1", "169.254.169.254", "fe80::1", "febf::1", "fe80::1%eth0"],
    "site-local": ["fec0::1", "feff::1"],
    "shared by carriers": ["100.64.0.0", "100.100.100.200", "100.127.255.255"],
    "benchmarks": ["198.18.0.0", "198.19.255.255", "2001:2::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "protocol assignments": ["192.0.0.1", "192.0.0.10", "192.0.0.192", "2001:1::1", "2001:20::1"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1", "5f00::1", "100::1", "::2:0:0:1"],
    "relays": ["192.88.99.1"],
    "cloud agents": ["168.63.129.16", "fd00:ec2::254"],
    "a scope of this machine": ["2606:4700:4700::1111%eth0"],
}

EMBEDDING = {
    "mapped": "::ffff:{}",
    "compatible": "::{}",
    "nat64": "64:ff9b::{}",
    "6to4": "2002:{hi:x}:{lo:x}::1",
}
"""How an IPv6 address holds an IPv4 address that packets to it may end up at."""

NEVER_WITH_IPV4 = {
    "nat64 of the network's own": "64:ff9b:1::{}",
    "nat64 of the network's own, shorter": "64:ff9b:1:{hi:x}:{lo:x}::",
    "translated": "::ffff:0:{}",
    "teredo server": "2001:0:{hi:x}:{lo:x}::1",
    "teredo client": "2001::{nhi:x}:{nlo:x}",
}


def embedded(form: str, inner: str) -> IPv6Address:
    number = int(IPv4Address(inner))
    high, low = number >> 16, number & 0xFFFF
    return IPv6Address(
        form.format(inner, hi=high, lo=low, nhi=high ^ 0xFFFF, nlo=low ^ 0xFFFF),
    )


def is_allowed(ip: Address) -> bool:
    try:
        require_public(ip)
    except TargetBlocked:
        return False
    return True


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_an_address_of_the_public_internet_may_be_called(text: str) -> None:
    require_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [pytest.param(text, id=f"{why} {text}") for why, of in NOT_PUBLIC.items() for text in of],
)
def test_an_address_that_is_not_public_is_blocked(text: str) -> None:
    with pytest.raises(TargetBlocked):
        require_public(ip_address(text))


@pytest.mark.parametrize("form", EMBEDDING.values(), ids=EMBEDDING)
def test_an_embedded_address_is_judged_as_the_address_inside(form: str) -> None:
    assert is_allowed(embedded(form, "8.8.8.8"))
    for inner in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "224.0.0.1"):
        assert not is_allowed(embedded(form, inner))


@pytest.mark.parametrize("form", NEVER_WITH_IPV4.values(), ids=NEVER_WITH_IPV4)
@pytest.mark.parametrize("inner", ["127.0.0.1", "10.1.2.3", "8.8.8.8"])
def test_a_form_whose_inside_is_somebody_elses_choice_is_blocked(form: str, inner: str) -> None:
    assert not is_allowed(embedded(form, inner))


def test_an_address_inside_an_address_inside_an_address_is_found() -> None:
    # 6to4 of a relay's address: public outside, not inside.
    assert not is_allowed(IPv6Address("2002:c058:6301::"))


ADDRESSES = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    st.builds(embedded, st.sampled_from(list(EMBEDDING.values())), st.ip_addresses(v=4).map(str)),
)


@given(ADDRESSES)
@example(ip_address("192.0.0.9"))
def test_whatever_the_library_calls_not_global_is_blocked_unless_judged_by_its_inside(
    ip: Address,
) -> None:
    inside = any(ip in IPv6Network(n) for n in ("::/96", "::ffff:0:0/96", "64:ff9b::/96"))
    if not inside and (not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified):
        assert not is_allowed(ip)


@given(st.ip_addresses(v=4), st.sampled_from(list(EMBEDDING.values())))
def test_embedding_an_address_never_changes_the_judgement(ip: IPv4Address, form: str) -> None:
    assert is_allowed(embedded(form, str(ip))) is is_allowed(ip)


def test_most_of_the_internet_may_be_called() -> None:
    step = 2**16
    allowed = sum(is_allowed(IPv4Address(number)) for number in range(77, 2**32, step))

    assert allowed / (2**32 / step) == pytest.approx(0.86, abs=0.01)
    assert is_allowed(IPv4Network("8.0.0.0/8")[0])


GOOD = {
    "https://client.example/ivxp/callback": "https://client.example/ivxp/callback",
    "https://client.example:8443/a?b=c": "https://client.example:8443/a?b=c",
    "https://client.example:443/": "https://client.example/",
    "HTTPS://Client.Example/Path": "https://client.example/Path",
    "https://client.example/a#b": "https://client.example/a",
    "https://client.example?a=b@c": "https://client.example/?a=b@c",
    "https://client.example/a@b": "https://client.example/a@b",
    "https://[2606:4700::1]/": "https://[2606:4700::1]/",
}


@pytest.mark.parametrize("text", GOOD)
def test_an_endpoint_is_called_as_it_is_but_for_its_fragment(text: str) -> None:
    assert str(parse_target(text, PUBLIC)) == GOOD[text]


REFUSED = [
    "",
    "client",
    "client.example/path",
    "//client.example/",
    "/ivxp/callback",
    "http://client.example/",
    "ftp://client.example/",
    "file:///etc/passwd",
    "gopher://client.example:443/",
    "javascript:alert(1)",
    "data:text/plain,a",
    "unix:///var/run/docker.sock",
    "https:client.example",
    "https:/client.example",
    "https://",
    "https:///path",
    "https://?a",
    "https://client.example:80/",
    "https://client.example:22/",
    "https://client.example:0/",
    "https://client.example:65536/",
    "https://client.example:-1/",
    "https://client.example:port/",
    "https://user@client.example/",
    "https://user:word@client.example/",
    "https://:word@client.example/",
    "https://@client.example/",
    "https://:@client.example/",
    "https://client.example@127.0.0.1/",
    "https://client.example:443@127.0.0.1/",
    "https://client.example\\@127.0.0.1/",
    "https:\\\\127.0.0.1/",
    "https://127.0.0.1\\.client.example/",
    "https://client.example /",
    " https://client.example/",
    "https://client.example/\r\nHost: other",
    "https://client.example/\n",
    "https://client\t.example/",
    "https://client.example/\x00",
    "https://client.example/\x7f",
    "https://[::1/",
    "https://[client.example]/",
    "https://[::1]client.example/",
]


@pytest.mark.parametrize("text", REFUSED)
def test_an_endpoint_that_parsers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(TargetBlocked):
        parse_target(text, PUBLIC)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:6066/ivxp/receive", "http://localhost/", "https://10.0.0.1:1/"]
)
def test_in_development_plain_http_and_every_port_may_be_called(text: str) -> None:
    assert str(parse_target(text, ANYWHERE)) == text
    ANYWHERE.require(ip_address("127.0.0.1"))


@pytest.mark.parametrize(
    "text", ["http://user@localhost/", "ftp://localhost/", "http://localhost:0/"]
)
def test_in_development_the_form_of_a_url_is_checked_all_the_same(text: str) -> None:
    with pytest.raises(TargetBlocked):
        parse_target(text, ANYWHERE)


@given(
    st.text(max_size=40), st.sampled_from(["", "https://", "https://a", "https://[", "https://a:"])
)
def test_any_text_is_either_a_url_within_the_rules_or_refused(text: str, start: str) -> None:
    try:
        url = parse_target(start + text, PUBLIC)
    except TargetBlocked:
        return
    assert url.scheme == "https"
    assert url.port in {443, 8443}
    assert url.host
    assert not url.raw_user
    assert not url.raw_fragment
