"""The canonical bytes: equal to two independent encoders, and one encoding per value."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import MAX_DEPTH, MAX_INTEGER, canonical, parse_canonical, parse_strict
from ledger.errors import VerificationError

integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text("abcxyz0189_", min_size=1, max_size=6)
scalars = st.none() | st.booleans() | integers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int, wrap: Callable[[object], object]) -> object:
    value: object = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@given(values)
def test_the_bytes_are_those_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(values)
def test_the_bytes_are_those_of_a_standard_json_encoder(value: object) -> None:
    standard = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert canonical(value) == standard.encode()


@given(values)
def test_what_was_encoded_is_parsed_back(value: object) -> None:
    assert parse_canonical(canonical(value)) == value


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        ({"a_": 1, "a": 2, "a0": 3, "_": 4}, b'{"_":4,"a":2,"a0":3,"a_":1}'),
        ("\x00\x1f\x7f", b'"\\u0000\\u001f\x7f"'),
        ('\b\t\n\f\r"\\/', b'"\\b\\t\\n\\f\\r\\"\\\\/"'),
        ("\u2028\U0001f600\u00e9", '"\u2028\U0001f600\u00e9"'.encode()),
        (MAX_INTEGER, b"9007199254740991"),
        (-MAX_INTEGER, b"-9007199254740991"),
        ([], b"[]"),
        ({}, b"{}"),
        ([None, True, False], b"[null,true,false]"),
    ],
)
def test_these_values_have_these_bytes(value: object, encoded: bytes) -> None:
    assert canonical(value) == encoded
    assert parse_canonical(encoded) == value


def test_texts_that_only_look_equal_have_different_bytes() -> None:
    assert canonical("\u00e9") != canonical("e\u0301")


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        0.5,
        float("nan"),
        float("inf"),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        2**64,
        {"A": 1},
        {"a-b": 1},
        {"": 1},
        {"a\n": 1},
        {"\u00e9": 1},
        {1: 1},
        {None: 1},
        {True: 1},
        (1, 2),
        {1, 2},
        b"bytes",
        ...,
        "\ud800",
        "a\udfffb",
        {"a": [{"b": "\udc00"}]},
    ],
    ids=repr,
)
def test_a_value_outside_the_subset_has_no_bytes(value: object) -> None:
    for hidden in (value, [value], {"a": value}):
        with pytest.raises(VerificationError):
            canonical(hidden)


def test_a_refusal_names_the_path() -> None:
    with pytest.raises(VerificationError, match=r"^\$\.a\[1\]\.b: a float has no canonical form$"):
        canonical({"a": [1, {"b": 1.5}]})


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}], ids=["lists", "objects"])
def test_a_value_may_be_32_deep_and_no_deeper(wrap: Callable[[object], object]) -> None:
    deepest = nested(MAX_DEPTH, wrap)

    assert parse_canonical(canonical(deepest)) == deepest
    with pytest.raises(VerificationError):
        canonical(nested(MAX_DEPTH + 1, wrap))


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(VerificationError):
        canonical(endless)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_bytes_too_deep_to_parse_are_refused_and_do_not_end_the_process(opening: str) -> None:
    # Libraries raise the recursion limit for the whole process, up to where the C stack ends.
    program = f"""
import sys
sys.setrecursionlimit(100_000)
from ledger.canonical import parse_strict
from ledger.errors import VerificationError
try:
    parse_strict({opening!r}.encode() * 200_000)
except VerificationError:
    sys.exit(42)
"""

    ended = subprocess.run([sys.executable, "-c", program], check=False)

    assert ended.returncode == 42


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b'{"a":1}{"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'[{"a":1,"\\u0061":1}]',
        b"1.0",
        b"1e3",
        b"-0.0",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"01",
        b"+1",
        b"9" * 5_000,
        b'\xef\xbb\xbf{"a":1}',
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b'"\\ud800"',
        b'"a\nb"',
        b"// comment\n1",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_bytes_that_are_not_strict_json_are_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        parse_strict(data)
    with pytest.raises(VerificationError):
        parse_canonical(data)


@pytest.mark.parametrize(
    "data",
    [
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b"-0",
        b'"\\u0061"',
        b'"\\/"',
        b'"\\u000A"',
        b'"\\u000a"',
        b'"\\u001F"',
        b'"\\u00e9"',
        b'"\\ud83d\\ude00"',
        b'{"A":1}',
        b"9007199254740992",
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_json_that_is_a_second_encoding_or_outside_the_subset_is_refused(data: bytes) -> None:
    parse_strict(data)

    with pytest.raises(VerificationError):
        parse_canonical(data)


@given(values, st.sampled_from([{"indent": 1}, {"ensure_ascii": True}, {"sort_keys": False}]))
def test_another_encoding_of_a_value_is_refused_or_is_the_same_bytes(
    value: object, form: dict[str, object]
) -> None:
    options = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False, **form}
    other = json.dumps(value, **options).encode()  # type: ignore[arg-type]

    if other == canonical(value):
        assert parse_canonical(other) == value
    else:
        with pytest.raises(VerificationError):
            parse_canonical(other)


@given(st.binary(max_size=40))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = parse_canonical(data)
    except VerificationError:
        return
    assert canonical(value) == data
