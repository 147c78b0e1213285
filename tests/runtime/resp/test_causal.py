"""MM.*: siblings, contexts, tables, members, changes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError, WrongContext
from mmrepl.runtime.resp.commands import COMMANDS
from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.types import NodeId
from mmrepl.wire.resp import Failure, Simple
from mmrepl.wire.tokens import context_token, parse_context_token, parse_version_token, version_token
from tests.runtime.resp.conftest import Talk

OK = Simple("OK")


def refused(reply, code: str, *parts: str) -> None:
    assert isinstance(reply, Failure), reply
    assert reply.code == code
    for part in parts:
        assert part in reply.text, reply.text


def test_read_tells_everything(talk3, backend):
    """Value, type, resolver, context, and for each sibling dot, time and whether it is what is shown."""
    backend.table("").receive("k", "theirs", "lima", timestamp=5 << 16)
    talk3("MM.BLIND", "k", '"ours"', "JSON")
    read = talk3("MM.READ", "k")
    assert (read[b"present"], read[b"value"], read[b"type"]) == (True, b"ours", b"str")
    assert read[b"resolver"] == b"last-writer-wins"
    lost, won = read[b"siblings"]
    assert lost == {
        b"dot": b"lima~9:1",
        b"timestamp": 5 << 16,
        b"time": b"1970-01-01T00:00:00.005+00:00",
        b"deleted": False,
        b"shown": False,
        b"type": b"str",
        b"value": b"theirs",
    }
    assert (won[b"dot"], won[b"shown"]) == (b"fake~1:1", True)
    absent = talk3("MM.READ", "none")
    assert (absent[b"present"], absent[b"value"], absent[b"siblings"], absent[b"context"]) == (False, None, [], b"-")


def test_read_in_version_2_is_the_same_flat(talk):
    """Version 2 has no maps: the pairs come one after the other."""
    talk("SET", "k", "v")
    flat = talk("MM.READ", "k")
    assert flat[:6] == [b"present", 1, b"type", b"bytes", b"value", b"v"]


def test_a_context_replaces_what_was_read_and_nothing_else(talk3, backend):
    """Read, change, put with the token: a write that came in between stays, as a sibling."""
    talk3("MM.TABLE", "drafts")
    drafts = backend.table("drafts")
    talk3("SET", "k", "first")
    token = talk3("MM.CONTEXT", "k")
    assert token == talk3("MM.READ", "k")[b"context"]
    drafts.receive("k", b"meanwhile", "lima")
    written = talk3("MM.PUT", "k", "second", "CONTEXT", token)
    assert written[b"dot"] == b"fake~1:2"
    assert sorted(talk3("MM.SIBLINGS", "k")) == [b"meanwhile", b"second"]
    assert orjson.loads(talk3("GET", "k")) == ["meanwhile", "second"]
    talk3("MM.PUT", "k", "both", "CONTEXT", talk3("MM.CONTEXT", "k"))
    assert talk3("MM.SIBLINGS", "k") == [b"both"]


def test_the_token_of_a_write_covers_it(talk3):
    """What MM.PUT answers can be used for the next, without reading."""
    talk3("MM.TABLE", "drafts")
    token = talk3("MM.PUT", "k", "1")[b"context"]
    token = talk3("MM.PUT", "k", "2", "CONTEXT", token)[b"context"]
    assert talk3("MM.SIBLINGS", "k") == [b"2"]
    assert talk3("MM.DEL", "k", "CONTEXT", token)[b"dot"] == b"fake~1:3"
    assert talk3("EXISTS", "k") == 0


def test_a_blind_write_is_a_sibling(talk3):
    """MM.BLIND, and MM.PUT with the empty context, replace nothing."""
    talk3("MM.TABLE", "drafts")
    talk3("MM.BLIND", "k", "1")
    talk3("MM.BLIND", "k", "2")
    talk3("MM.PUT", "k", "3", "CONTEXT", "-")
    assert talk3("MM.SIBLINGS", "k") == [b"1", b"2", b"3"]


def test_a_plain_put_is_a_set(talk3, backend):
    """MM.PUT without a context writes over what is shown; with JSON it keeps the types."""
    talk3("SET", "k", "1")
    talk3("MM.PUT", "k", '{"a": [1, null]}', "JSON")
    assert backend.table("").plain["k"] == {"a": [1, None]}
    assert talk3("GET", "k") == b'{"a":[1,null]}'
    refused(talk3("MM.PUT", "k", "{", "JSON"), "INVALID", "not JSON")
    refused(talk3("MM.PUT", "k", "1", "WHAT"), "ERR", "syntax error")


def test_contexts_of_other_keys_and_nonsense_are_refused(talk):
    """A context belongs to its key; what is no token is said to be none. Nothing is written."""
    talk("MSET", "a", "1", "b", "2")
    token = talk("MM.CONTEXT", "a")
    refused(talk("MM.PUT", "b", "3", "CONTEXT", token), "WRONGCONTEXT", "certainly not written")
    for nonsense in ("", "=", "é", "AAAA=", "A", "a b"):
        refused(talk("MM.PUT", "b", "3", "CONTEXT", nonsense), "WRONGCONTEXT")
    assert talk("GET", "b") == b"2"


def test_deleting_nothing(talk):
    """MM.DEL of an absent key writes nothing and answers nothing; with a context it writes a tombstone."""
    assert talk("MM.DEL", "k") is None
    assert talk("MM.DEL", "k", "CONTEXT", "-")[1] == b"fake~1:1"
    assert talk("MM.SIBLINGS", "k") == []


def test_tables(talk3):
    """Tables have names and resolvers; one is chosen per connection."""
    assert talk3("MM.TABLES") == {b"": b"last-writer-wins", b"drafts": b"keep-siblings"}
    talk3("SET", "k", "default")
    assert talk3("MM.TABLE", "drafts") == OK
    assert (talk3("MM.TABLE"), talk3("GET", "k"), talk3("DBSIZE")) == (b"drafts", None, 0)
    refused(talk3("MM.TABLE", "nope"), "NOTABLE", "nope")
    assert talk3("MM.TABLE") == b"drafts"
    talk3("SELECT", 0)
    assert talk3("GET", "k") == b"default"


def test_status_and_members(talk3):
    """Members as maps, status as JSON."""
    assert [member[b"name"] for member in talk3("MM.MEMBERS")] == [b"fake", b"lima"]
    assert orjson.loads(talk3("MM.STATUS"))["deep"] == {"a": [1]}


def test_drills(talk, backend):
    """Partition and heal; unknown peers and switched-off drills are refused."""
    assert talk("MM.PARTITION", "lima") == OK
    assert backend.blocked == ["lima"]
    refused(talk("MM.PARTITION", "oslo"), "ERR", "oslo")
    assert talk("MM.HEAL", "lima") == OK
    assert backend.blocked == []
    talk("MM.PARTITION", "lima")
    assert talk("MM.HEAL") == OK
    assert backend.blocked == []
    quiet = Talk(backend, ClientOptions(drills=False))
    refused(quiet("MM.PARTITION", "lima"), "ERR", "switched off")
    refused(quiet("MM.HEAL"), "ERR", "switched off")


def test_changes_can_be_followed_from_a_token(talk3, backend):
    """Each page ends with the token from which the next begins; nothing is missing or repeated."""
    for number in range(5):
        talk3("SET", f"k{number}", str(number))
    backend.table("drafts").receive("d", None, "lima")
    talk3("DEL", "k0")
    seen, token = [], b"-"
    while True:
        page = talk3("MM.CHANGES", "SINCE", token, "COUNT", 2)
        if not page[b"changes"]:
            break
        seen += page[b"changes"]
        token = page[b"token"]
    assert [(change[b"table"], change[b"key"]) for change in seen] == [
        *((b"", b"k%d" % number) for number in range(5)),
        (b"drafts", b"d"),
        (b"", b"k0"),
    ]
    assert (seen[-1][b"deleted"], seen[-1][b"value"], seen[0][b"value"]) == (True, None, b"0")
    assert token == talk3("MM.VERSION")[b"token"]
    assert talk3("MM.VERSION")[b"vector"] == {b"fake~1": 6, b"lima~9": 1}
    assert len(talk3("MM.CHANGES")[b"changes"]) == 7
    refused(talk3("MM.CHANGES", "SINCE", "nonsense"), "ERR", "token")


def test_a_page_of_changes_has_a_bound(backend):
    """Large values make shorter pages, at least one operation each; none is missing or repeated."""
    talk = Talk(backend, ClientOptions(reply_bytes=1024))
    talk("HELLO", 3)
    for number in range(10):
        talk("SET", f"k{number}", "x" * 600)
    pages, token = [], b"-"
    while (page := talk("MM.CHANGES", "SINCE", token))[b"changes"]:
        pages.append([change[b"key"] for change in page[b"changes"]])
        token = page[b"token"]
    assert pages == [[b"k%d" % number, b"k%d" % (number + 1)] for number in range(0, 10, 2)]


def test_help(talk):
    """MM.HELP has a line for every command."""
    assert len(talk("MM.HELP")) == len(COMMANDS)
    assert talk("MM.HELP", "get") == [
        "GET key — The value of a key, as this node shows it; nothing when absent.".encode()
    ]
    refused(talk("MM.HELP", "nope"), "ERR")


@given(st.binary(max_size=40))
def test_context_tokens_come_back(context):
    """Any context survives being text, and the text has no blanks."""
    token = context_token(context)
    assert parse_context_token(token.encode()) == context
    assert token.split() == [token]


@given(st.binary(max_size=12))
def test_only_our_own_tokens_are_taken(token):
    """What is taken for a context token is exactly what we would have made."""
    try:
        context = parse_context_token(token)
    except WrongContext:
        return
    assert context_token(context).encode() == token


vectors = st.dictionaries(
    st.builds(NodeId, st.text("ab~:", min_size=1), st.integers(0, 1 << 62)), st.integers(0, 1 << 46)
)


@given(vectors)
def test_version_tokens_come_back(counters):
    """Any vector survives being a token."""
    vector = VersionVector(counters)
    assert parse_version_token(version_token(vector).encode()) == vector


@pytest.mark.parametrize("text", [b"", b"x", b"WzFd", b"bnVsbA", b"W1siYX4xIiwidyJdXQ", b"W1siYX4xIiwtMV1d", b"\xff"])
def test_what_is_no_version_token(text):
    """Numbers, nulls, negative counters, other bytes."""
    with pytest.raises(UsageError, match="token"):
        parse_version_token(text)
