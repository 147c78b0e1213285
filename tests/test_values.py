"""What may be stored, what it becomes, and that nothing else gets through in either direction."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import struct
import subprocess
import sys
import uuid
from collections import OrderedDict, defaultdict, namedtuple

import attrs
import msgspec
import pytest
from hypothesis import example, find, given, settings
from hypothesis import strategies as st

from mmrepl.errors import InvalidKey, InvalidValue, UsageError
from mmrepl.types import DEPTH_MAX, Limits
from mmrepl.values import check_key, check_table, decode, encode, first_invalid, is_too_deep, too_deep

pack = msgspec.msgpack.encode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ints = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 127, 128, 2**31, 2**32, 2**63 - 1, -(2**63), 0xCF])
scalars = st.none() | st.booleans() | ints | st.floats() | texts | st.binary(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


class Text(str):
    __slots__ = ()


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Row(msgspec.Struct):
    x: int = 1


@attrs.frozen
class Point:
    x: int = 1


@dataclasses.dataclass
class Pair:
    x: int = 1


Named = namedtuple("Named", "x")

FOREIGN = [
    (1, 2),
    (),
    Named(1),
    {1, 2},
    frozenset(),
    bytearray(b"x"),
    memoryview(b"x"),
    Text("x"),
    Colour.RED,
    Level.LOW,
    OrderedDict(a=1),
    defaultdict(int),
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.date(2026, 1, 1),
    dt.time(1),
    dt.timedelta(1),
    decimal.Decimal("1.5"),
    fractions.Fraction(1, 2),
    uuid.UUID(int=1),
    1j,
    range(3),
    iter([]),
    object(),
    int,
    len,
    ...,
    Row(),
    Point(),
    Pair(),
    msgspec.Raw(b"\x01"),
    msgspec.msgpack.Ext(1, b"x"),
    msgspec.UNSET,
    {}.keys(),
    2**63,
    -(2**63) - 1,
    2**64,
    10**400,
    "\ud800",
    "a\udfff",
]


def same(ours: object, theirs: object) -> bool:
    """Equal to the type and to the bit: what ``==`` does not say."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, float):
        return struct.pack(">d", ours) == struct.pack(">d", theirs)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(map(same, ours.values(), theirs.values()))
    return ours == theirs


def belongs(value: object, depth: int = 64) -> bool:
    """The domain, said as plainly as possible: the dumb twin of the checks in `encode`."""
    if type(value) in (list, dict):
        if depth == 0:
            return False
        keys = value if type(value) is dict else []
        elements = value.values() if type(value) is dict else value
        return all(type(key) is str and belongs(key) for key in keys) and all(belongs(e, depth - 1) for e in elements)
    if type(value) is str:
        return not any(0xD800 <= ord(character) < 0xE000 for character in value)
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return value is None or type(value) in (bool, float, bytes)


# -- round trips


@given(values)
@example([0xCF, 2**63 - 1, "Ϗ", 1.5])
@example([[[[[[[[2**63 - 1]]]]]]]])
def test_what_is_encoded_comes_back(value):
    """Decoding gives the value back, to the type, the order of keys and the bits of a NaN; and the same bytes again."""
    payload = encode(value)
    assert same(decode(payload), value)
    assert encode(decode(payload)) == payload


def test_each_decoding_gives_a_value_of_its_own():
    """Changing what was read changes nothing for others."""
    payload = encode({"tags": ["a"]})
    decode(payload)["tags"].append("b")
    assert decode(payload) == {"tags": ["a"]}


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8000000000123, 0x7FF0000000000000])
def test_nan_and_infinity_keep_their_bits(bits):
    """A NaN is a float like another: 64 bits, the same as itself when they are the same."""
    (number,) = struct.unpack(">d", struct.pack(">Q", bits))
    assert encode(number) == encode([number])[1:] == b"\xcb" + bits.to_bytes(8, "big")
    assert same(decode(encode({"x": number})), {"x": number})


def test_what_python_calls_equal_stays_apart():
    """0, False, 0.0 and -0.0 are four values, as are "" and b""."""
    assert len({encode(value) for value in (0, False, 0.0, -0.0, "", b"", [], {}, None)}) == 9
    assert type(decode(encode(True))) is bool
    assert math.copysign(1, decode(encode(-0.0))) == -1


# -- what is refused on the way in


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda thing: type(thing).__name__)
def test_a_foreign_element_is_refused_with_its_path(foreign):
    """Whatever is not exactly of the domain is refused, wherever it is, and the path leads to it."""
    places = [
        (foreign, "value"),
        ([foreign], "value[0]"),
        ({"a": 1, "b": foreign}, "value['b']"),
        ({"tags": ["a", "b", [], foreign, (1,)]}, "value['tags'][3]"),
        ({"Ϗ": [b"", {"": [foreign]}]}, "value['Ϗ'][1][''][0]"),
        ([[[[[[[[foreign]]]]]]]], "value" + "[0]" * 8),
    ]
    for value, path in places:
        with pytest.raises(InvalidValue) as caught:
            encode(value)
        assert caught.value.path == path
        assert str(caught.value).startswith(path)
        assert isinstance(caught.value, (UsageError, ValueError))
        assert caught.value.definite


@pytest.mark.parametrize("key", [1, None, b"a", True, 1.5, (1,), Text("x"), Colour.RED, "\ud800", 2**70])
def test_a_key_that_is_no_str_is_refused_with_the_path_of_its_dict(key):
    """Keys are exactly str, of valid Unicode."""
    for value, path in (({key: 1}, "value"), ([1, {"a": {"ok": 1, key: []}}], "value[1]['a']")):
        with pytest.raises(InvalidValue, match="key") as caught:
            encode(value)
        assert caught.value.path == path


foreigners = st.sampled_from([foreign for foreign in FOREIGN if not isinstance(foreign, type(iter([])))])
mixed = st.recursive(
    scalars | foreigners,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.sampled_from([1, None, "\ud800", Text("k")]), inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
    ),
)


def element_at(value: object, path: str) -> object:
    """What *path* leads to."""
    return eval(path, {"value": value})


@given(mixed)
@settings(max_examples=300)
def test_refused_is_exactly_what_is_outside_the_domain(value):
    """The fast checks agree with the plain definition, and the path leads to something that is outside by itself."""
    if belongs(value):
        assert same(decode(encode(value)), value)
        return
    with pytest.raises(InvalidValue) as caught:
        encode(value)
    element = element_at(value, caught.value.path)
    assert not belongs(element)
    assert type(element) is not list, "a list is never outside by itself"
    if type(element) is dict:
        assert not all(type(key) is str and belongs(key) for key in element)


def test_the_comparison_above_would_find_a_lax_encoder():
    """Planted: an encoder that takes whatever msgspec takes lets foreign values pass, and the strategy finds one."""

    def lets_pass(value):
        try:
            pack(value)
        except (TypeError, OverflowError, UnicodeEncodeError):
            return False
        return not belongs(value)

    assert not belongs(find(mixed, lets_pass))


def test_messages_say_what_to_do():
    """The advice names the plain thing to store instead."""
    for value, advice in [
        ((1,), "make it a list"),
        ({1}, "make it a sorted list"),
        (Text("x"), "a subclass of str: its type would be lost"),
        (dt.date(2026, 1, 1), "isoformat"),
        (decimal.Decimal(1), "store it as a str"),
        (2**63, "more than 64 bits"),
        (object(), "a value is None, bool, int, float, str, bytes, list, or dict with str keys"),
        ("a\ud800", "lone surrogate at index 1"),
    ]:
        with pytest.raises(InvalidValue, match=advice):
            encode([value])


def test_a_repr_that_raises_does_not_hide_the_error():
    """Foreign objects are never asked to describe themselves."""

    class Rude:
        def __repr__(self):
            raise RuntimeError

        __hash__ = object.__hash__

    for value in (Rude(), [Rude()], {Rude(): 1}):
        with pytest.raises(InvalidValue, match="Rude"):
            encode(value)


# -- depth and size


def nested(depth: int, innermost: object = 1, kind: str = "list") -> object:
    value = innermost
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value}
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("innermost", [1, b"x", 2**63 - 1])
@pytest.mark.parametrize("depth", [1, 2, 5, 6, 7, 8, 64, DEPTH_MAX])
def test_depth_is_allowed_up_to_the_limit_and_no_further(depth, innermost, kind):
    """A value as deep as the limit is stored and read; one level more is refused."""
    limits = Limits(depth=depth)
    value = nested(depth, innermost, kind)
    assert same(decode(encode(value, limits)), value)
    for container in ([value], {"k": value}, [1, [], value]):
        with pytest.raises(InvalidValue, match="deeper than"):
            encode(container, limits)
    assert encode([[]] * 3, Limits(depth=2))
    with pytest.raises(InvalidValue):
        encode([[[]]], Limits(depth=2))


def test_a_limit_deeper_than_the_decoder_goes_cannot_be_set():
    """What could be written but not read cannot be configured."""
    with pytest.raises(ValueError, match="depth"):
        Limits(depth=DEPTH_MAX + 1)


def test_a_container_in_itself_is_refused():
    """Cycles of every shape end in an error that says so."""
    direct: list = [1]
    direct += [direct, [2]]
    double: list = []
    double += [double, double]
    through: dict = {"a": [1, {"b": []}]}
    through["a"][1]["b"].append(through)
    for value, path in ((direct, "value[1]"), (double, "value[0]"), (through, "value['a'][1]['b'][0]")):
        with pytest.raises(InvalidValue, match="contains itself") as caught:
            encode(value)
        assert caught.value.path == path
        with pytest.raises(InvalidValue):
            encode(value, Limits(depth=DEPTH_MAX))


def test_a_few_lists_that_unfold_to_billions_are_refused_soon():
    """Sharing makes 2**40 elements of 40 lists: they are counted against the size, not built."""
    value: object = []
    for _ in range(40):
        value = [value, value]
    with pytest.raises(InvalidValue, match="value_bytes"):
        encode(value, Limits(value_bytes=10_000))


def test_size_is_allowed_up_to_the_limit_and_no_further():
    """The encoded length counts, header included."""
    limits = Limits(value_bytes=100)
    assert len(encode("x" * 98, limits)) == 100
    for value in ("x" * 99, b"x" * 99, [1] * 98, {"k": "é" * 50}, [[1] * 50, [1] * 50]):
        with pytest.raises(InvalidValue, match="value_bytes") as caught:
            encode(value, limits)
        assert caught.value.path == "value"


# -- bytes from a peer


@given(st.binary(max_size=40))
@settings(max_examples=500)
def test_bytes_from_anybody_give_a_value_or_an_invalid_value(payload):
    """No bytes make `decode` raise anything else, or give something outside the domain."""
    try:
        value = decode(payload)
    except InvalidValue:
        return
    assert belongs(value, DEPTH_MAX)


@given(values, st.data())
def test_damaged_payloads_give_a_value_or_an_invalid_value(value, data):
    """Cut anywhere, or with a byte changed."""
    payload = encode(value)
    at = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(InvalidValue):
        decode(payload[:at])
    with pytest.raises(InvalidValue):
        decode(payload + b"\x01")
    changed = payload[:at] + bytes([payload[at] ^ data.draw(st.integers(1, 255))]) + payload[at + 1 :]
    with contextlib.suppress(InvalidValue):
        assert belongs(decode(changed), DEPTH_MAX)


OUTSIDE = {
    "nothing": b"",
    "never used": b"\xc1",
    "int above 2**63-1": b"\xcf\x80" + bytes(7),
    "extension": b"\xd4\x01\x02",
    "long extension": b"\xc7\x02\x05ab",
    "timestamp": b"\xd6\xff\x00\x00\x00\x01",
    "impossible timestamp": b"\xd7\xff" + b"\xff" * 8,
    "invalid UTF-8": b"\xa2\xff\xfe",
    "encoded surrogate": b"\xa3\xed\xa0\x80",
    "int as key": b"\x81\x01\x02",
    "None as key": b"\x81\xc0\x02",
    "bytes as key": b"\x81\xc4\x01a\x02",
    "list as key": b"\x81\x90\x02",
    "dict as key": b"\x81\x81\x01\x01\x02",
    "timestamp as key": b"\x81\xd6\xff\x00\x00\x00\x01\x01",
    "float as key": b"\x81\xcb" + bytes(8) + b"\x01",
    "invalid UTF-8 in a key": b"\x81\xa1\xff\x01",
    "a count without end": b"\xdd\xff\xff\xff\xff",
    "a map without end": b"\xdf\xff\xff\xff\xff",
    "bytes without end": b"\xc6\xff\xff\xff\xff",
}


@pytest.mark.parametrize("payload", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_msgpack_has_beyond_the_domain_is_refused(payload):
    """Alone, in containers, beside bytes, and deeper than the typed decoder looks."""
    binary = b"\xc4\x01x"
    wrapped = [payload, b"\x91" + payload, b"\x82\xa1a" + binary + b"\xa1b" + payload, b"\x91" * 9 + payload]
    for candidate in wrapped:
        with pytest.raises(InvalidValue):
            decode(candidate)
        found = first_invalid([b"\x01", None, candidate, b"\xc1"])
        assert found is not None
        assert found[0] == 2


def test_the_refusal_of_a_payload_names_the_place():
    """The path leads into what the peer sent."""
    with pytest.raises(InvalidValue, match=r"value\['a'\]\[1\] is an int of more") as caught:
        decode(pack({"a": [1, 2**63], "b": b""}))
    assert caught.value.path == "value['a'][1]"


def test_other_spellings_of_values_are_read():
    """A longer int, a short float and a repeated key are no reason to part from a peer: everybody reads them alike."""
    assert decode(b"\xcf" + (5).to_bytes(8, "big")) == 5
    assert same(decode(b"\xca\x3f\x80\x00\x00"), 1.0)
    assert decode(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}


@pytest.mark.parametrize("payload", [b"\x91", b"\x81\xa1k", b"\x81\xc4\x01k", b"\xdd\x00\x00\x00\x01"])
def test_endless_nesting_is_refused(payload):
    """Ten thousand levels are too deep, whatever they are made of."""
    for candidate in (payload * 10_000, payload * 10_000 + b"\x01", b"\xc4\x00" + payload * 10_000):
        with pytest.raises(InvalidValue):
            decode(candidate)


def test_endless_nesting_does_not_end_a_process_with_a_raised_recursion_limit():
    """Where the host has raised Python's limit, msgspec alone would overflow the C stack."""
    program = (
        "import sys; sys.setrecursionlimit(10**8)\n"
        "from mmrepl.errors import InvalidValue\n"
        "from mmrepl.values import decode, first_invalid, too_deep\n"
        "bomb = b'\\x91' * 5_000_000 + b'\\x01'\n"
        "assert too_deep([bomb], 64) == 0 and first_invalid([bomb])[0] == 0\n"
        "for payload in (bomb, b'\\x92\\xc4\\x00' + bomb, b'\\x81\\xa1k' * 1_000_000):\n"
        "    try: decode(payload)\n"
        "    except InvalidValue: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 3), done.stderr


# -- depth, measured without recursion


def depth_of(value: object) -> int:
    """Containers inside each other, counted the plain way."""
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


@given(values)
@example([[], [[]], {"a": {}}, []])
@example([b"\x91" * 300, "\x91" * 20, -1, 2**40, 1.5, [["x" * 300, b"x" * 70_000]]])
def test_measured_depth_is_the_depth(value):
    """The scan agrees with plain recursion, at every bound."""
    payload = encode(value)
    depth = depth_of(value)
    assert [is_too_deep(payload, bound) for bound in range(depth + 2)] == [True] * depth + [False] * 2


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(texts, inner, max_size=20)))
@settings(max_examples=10)
def test_measured_depth_is_the_depth_of_wide_values(value):
    """Also where headers have counts of their own."""
    wide = [value] * 20 + [{str(i): value for i in range(20)}] + [[0] * 70_000]
    payload = pack(wide)
    depth = depth_of(wide)
    assert not is_too_deep(payload, depth)
    assert is_too_deep(payload, depth - 1)


@given(st.binary(max_size=60), st.integers(0, 4))
def test_measuring_takes_any_bytes(payload, depth):
    """Garbage is measured as far as it goes; what it calls shallow, no decoder goes deeper into."""
    if not is_too_deep(payload, depth):
        try:
            value = msgspec.msgpack.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if belongs(value):
            assert depth_of(value) <= depth


FLAT = [
    *(bytes([header]) for header in (0x00, 0x7F, 0xE0, 0xFF, 0xC0, 0xC2, 0xC3, 0x80, 0x90)),
    *(bytes([header]) + b"\x91" * size for header, size in [(0xCA, 4), (0xCB, 8), (0xD0, 1), (0xD1, 2), (0xD2, 4)]),
    *(bytes([header]) + b"\x91" * size for header, size in [(0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8), (0xD3, 8)]),
    *(
        bytes([header]) + b"\x01" + b"\x91" * size
        for header, size in zip(range(0xD4, 0xD9), (1, 2, 4, 8, 16), strict=True)
    ),
    *(bytes([0xA0 | size]) + b"\x11" * size for size in (0, 1, 15, 16, 31)),
    *(bytes([0xC4 + i]) + (9).to_bytes(1 << i, "big") + b"\x91" * 9 for i in range(3)),
    *(bytes([0xC7 + i]) + (9).to_bytes(1 << i, "big") + b"\x01" + b"\x91" * 9 for i in range(3)),
    *(bytes([0xD9 + i]) + (9).to_bytes(1 << i, "big") + b"\x11" * 9 for i in range(3)),
    *(bytes([0xDC + i]) + bytes(2 << i) for i in range(2)),
    *(bytes([0xDE + i]) + bytes(2 << i) for i in range(2)),
]


@pytest.mark.parametrize("flat", FLAT, ids=lambda flat: f"{flat[0]:x}")
def test_measuring_steps_over_each_kind_of_element(flat):
    """Also over those that are none of the domain, with contents that look like headers."""
    own = 1 if flat[0] in {0x80, 0x90, *range(0xDC, 0xE0)} else 0
    assert not is_too_deep(flat * 2, own)
    wrappers = {
        b"\x92": b"",
        b"\x82\x01": b"\x02",
        b"\xdc\x00\x02": b"",
        b"\xdd\x00\x00\x00\x02": b"",
        b"\xde\x00\x02\x01": b"\x02",
        b"\xdf\x00\x00\x00\x02\x01": b"\x02",
    }
    for opening, key in wrappers.items():
        alone = opening + flat + key + flat
        followed = opening + flat + key + b"\x91\x91\x90"
        msgspec.msgpack.decode(alone)  # well-formed
        assert [is_too_deep(alone + b"\x91", bound) for bound in (own, own + 1)] == [True, False]
        assert [is_too_deep(followed, bound) for bound in (3, 4)] == [True, False]


@given(st.lists(st.none() | values.map(encode), max_size=6), st.integers(0, 4))
def test_the_first_that_is_too_deep(payloads, depth):
    """In bulk as one by one; tombstones are never deep."""
    deep = [index for index, payload in enumerate(payloads) if payload is not None and is_too_deep(payload, depth)]
    assert too_deep(payloads, depth) == (deep[0] if deep else None)
    found = first_invalid(payloads, depth)
    assert (found and found[0]) == (deep[0] if deep else None)


def test_payloads_without_fault_pass_in_bulk():
    """Whatever `encode` made, and tombstones; an empty payload is no tombstone."""
    good = [encode(value) for value in (1, [b"x"], nested(64), {"a": [2**63 - 1]}, b"")]
    assert first_invalid([]) is None
    assert first_invalid([*good, None]) is None
    assert first_invalid(iter([None, *good])) is None
    found = first_invalid([None, b""])
    assert found is not None
    assert found[0] == 1


# -- keys and tables


@pytest.mark.parametrize("key", ["k", "\0", "a\nb", "🦜", "x" * 1024, "é" * 512, " ", "🦜" * 256, "\ufeff"])
def test_any_text_is_a_key(key):
    """Of 1 to 1,024 bytes in UTF-8, and a table name."""
    check_key(key)
    check_table(key)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("x" * 1025, "takes 1,025 bytes; the limit key_bytes is 1,024"),
        ("é" * 513, "takes 1,026 bytes"),
        ("🦜" * 257, "key_bytes"),
        ("a\ud83d", "lone surrogate at index 1"),
        (b"k", "must be a str, not bytes"),
        (None, "must be a str"),
        (1, "must be a str"),
        (["k"], "must be a str"),
        (Text("k"), "must be a str, not .*Text: store under"),
        (Colour.RED, "its .value"),
    ],
)
def test_what_is_no_key_is_no_table_name_either(key, message):
    """The message says why."""
    with pytest.raises(InvalidKey, match=message):
        check_key(key)
    with pytest.raises(InvalidKey, match=message):
        check_table(key)


def test_the_empty_table_has_a_name_but_no_key_is_empty():
    """The default table's name is the empty str."""
    check_table("")
    with pytest.raises(InvalidKey, match="empty"):
        check_key("")


def test_the_limit_of_keys_is_configurable():
    """Bytes count, not characters."""
    check_key("éé", Limits(key_bytes=4))
    for key in ("ééé", "abcde"):
        with pytest.raises(InvalidKey):
            check_key(key, Limits(key_bytes=4))
