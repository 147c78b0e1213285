"""Commands of Redis, one conversation each, without sockets."""

from __future__ import annotations

import random

import pytest

from mmrepl.errors import AckTimeout, ClockAhead, ResolverError, StoreFailed
from mmrepl.ports import Durability
from mmrepl.runtime.resp.commands import COMMANDS
from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.runtime.resp.refused import REFUSED
from mmrepl.runtime.resp.session import Cursors, Refused
from mmrepl.wire.resp import Failure, Simple
from tests.runtime.resp.conftest import Talk
from tests.runtime.resp.fake import FakeBackend

OK = Simple("OK")


def refused(reply, code: str, *parts: str) -> None:
    assert isinstance(reply, Failure), reply
    assert reply.code == code
    for part in parts:
        assert part in reply.text, reply.text


def test_set_and_get(talk, backend):
    """SET stores the client's bytes, GET gives them back; absent is nothing."""
    assert talk("GET", "k") is None
    assert talk("SET", "k", b"\x00\xff") == OK
    assert talk("GET", "k") == b"\x00\xff"
    assert backend.table("").plain["k"] == b"\x00\xff"
    assert talk("STRLEN", "k") == 2
    assert talk("STRLEN", "none") == 0


def test_values_of_python_programs_are_visible(talk, backend):
    """A str reads as its text, everything else as JSON; None is a value and not an absence."""
    backend.table("").put("s", "é", None)
    backend.table("").put("d", {"a": [1, b"x"]}, None)
    backend.table("").put("n", None, None)
    assert talk("MGET", "s", "d", "n", "none") == ["é".encode(), b'{"a":[1,"x"]}', b"null", None]
    assert talk("EXISTS", "s", "n", "none", "s") == 3
    assert talk("STRLEN", "s") == 2


def test_options_of_set(talk):
    """GET gives the value before; KEEPTTL changes nothing, there being no expiry."""
    assert talk("SET", "k", "1", "GET") is None
    assert talk("SET", "k", "2", "get", "keepttl") == b"1"
    assert talk("GETSET", "k", "3") == b"2"
    assert talk("GETDEL", "k") == b"3"
    assert talk("GETDEL", "k") is None
    assert talk("EXISTS", "k") == 0


@pytest.mark.parametrize("option", [["NX"], ["xx"], ["EX", "10"], ["PX", "1"], ["EXAT", "1"], ["PXAT", "1"]])
def test_what_one_node_cannot_decide_is_refused_with_the_reason(talk, option):
    """NX, XX and expiry are refused, say why, and write nothing."""
    refused(talk("SET", "k", "v", *option), "ERR", f"SET {option[0].upper()} is not offered", "node")
    assert talk("GET", "k") is None


@pytest.mark.parametrize("words", [["BAD"], ["EX"], ["GET", "GET"], ["KEEPTTL", "x"]])
def test_wrong_options_are_syntax_errors(talk, words):
    """Unknown, incomplete and repeated options."""
    refused(talk("SET", "k", "v", *words), "ERR", "syntax error")


def test_mset_checks_all_before_it_writes_any(talk, backend):
    """One bad pair, wherever it stands, and nothing is written."""
    assert talk("MSET", "a", "1", "b", "2") == OK
    assert talk("MGET", "a", "b") == [b"1", b"2"]
    refused(talk("MSET", "c", "1", "d"), "ERR", "wrong number of arguments for 'mset' command")
    refused(talk("MSET", "c", "1", "x" * 1025, "2"), "INVALID", "1024")
    refused(talk("MSET", "c", "1", b"\xff", "2"), "INVALID", "UTF-8")
    refused(talk("MSET", "c", "1", "d", b"x" * (backend.limits.value_bytes + 1)), "INVALID", "value_bytes")
    assert talk("EXISTS", "c") == 0


def test_delete(talk):
    """DEL and UNLINK count what was present; deleting twice counts once."""
    talk("MSET", "a", "1", "b", "2", "c", "3")
    assert talk("DEL", "a", "none", "a") == 1
    assert talk("UNLINK", "b", "c") == 2
    assert talk("DBSIZE") == 0


def test_small_facts_about_keys(talk):
    """TYPE, TTL, PTTL, PERSIST, TOUCH, EXISTS."""
    talk("SET", "k", "v")
    assert talk("TYPE", "k") == Simple("string")
    assert talk("TYPE", "none") == Simple("none")
    assert (talk("TTL", "k"), talk("PTTL", "none"), talk("PERSIST", "k"), talk("TOUCH", "k")) == (-1, -2, 0, 1)


def test_keys_in_key_order(talk):
    """KEYS gives matching keys in order; a literal beginning narrows the look."""
    for key in ["b:2", "a", "b:1", "é", "b"]:
        talk("SET", key, "v")
    assert talk("KEYS", "*") == [b"a", b"b", b"b:1", b"b:2", "é".encode()]
    assert talk("KEYS", "b:*") == [b"b:1", b"b:2"]
    assert talk("KEYS", "?") == [b"a", b"b", "é".encode()]
    refused(talk("KEYS", "x" * 2000), "ERR", "1024")


def scan_all(talk, *options) -> list[bytes]:
    found, cursor = [], b"0"
    while True:
        cursor, keys = talk("SCAN", cursor, *options)
        found += keys
        if cursor == b"0":
            return found


def test_scan_gives_every_key_once_in_order(talk):
    """Whatever COUNT and MATCH, the pages together are the keys in order."""
    keys = sorted(f"key:{number}".encode() for number in range(57))
    for key in keys:
        talk("SET", key, "v")
    for count in (1, 7, 57, 1000):
        assert scan_all(talk, "COUNT", count) == keys
    assert scan_all(talk) == keys
    assert scan_all(talk, "MATCH", "key:1*", "COUNT", 3) == [key for key in keys if key.startswith(b"key:1")]
    assert scan_all(talk, "MATCH", "*7", "COUNT", 3) == [key for key in keys if key.endswith(b"7")]
    assert scan_all(talk, "TYPE", "hash") == []
    assert scan_all(talk, "TYPE", "string") == keys


def test_scan_while_keys_come_and_go(talk):
    """A key that is there all the time is given exactly once, whatever happens around it."""
    dice = random.Random(5)
    stay = sorted(f"k{number:03}".encode() for number in range(0, 300, 3))
    others = [f"k{number:03}".encode() for number in range(300) if number % 3]
    for key in stay:
        talk("SET", key, "v")
    found, cursor = [], b"0"
    while True:
        cursor, keys = talk("SCAN", cursor, "COUNT", 7)
        found += keys
        if cursor == b"0":
            break
        for key in dice.sample(others, 10):
            talk(*dice.choice([("SET", key, "v"), ("DEL", key)]))
    assert [key for key in found if key in stay] == stay
    assert len(found) == len(set(found))


def test_cursors(talk, backend):
    """A cursor may be used again, from another connection too; one that nobody made, or of another table, is refused."""
    for number in range(20):
        talk("SET", f"k{number:02}", "v")
    cursor, _ = talk("SCAN", 0)
    second = Talk(backend, shared=talk.shared)
    assert second("SCAN", cursor)[1] == talk("SCAN", cursor)[1] == [b"k%02d" % number for number in range(10, 20)]
    refused(talk("SCAN", 12345), "ERR", "start again")
    refused(talk("SCAN", "x"), "ERR", "not an integer")
    refused(talk("SCAN", 0, "COUNT", 0), "ERR", "not an integer")
    talk("MM.TABLE", "drafts")
    refused(talk("SCAN", cursor), "ERR", "none of this table")


def test_forgotten_cursors_are_refused_not_guessed():
    """At the bound the oldest place is forgotten; equal draws do not meet."""
    draws = iter([0, 5, 5, 6, 7])
    cursors = Cursors(2, lambda: next(draws))
    first = cursors.remember("", "a")
    assert cursors.remember("", "b") == 6
    assert first == 5
    assert cursors.place("", 5) == "a"
    cursors.remember("", "c")
    assert len(cursors) == 2
    with pytest.raises(Refused, match="forgotten"):
        cursors.place("", 5)


def test_an_answer_has_a_bound():
    """KEYS and MGET beyond ``reply_bytes`` are errors; SCAN gives shorter pages."""
    talk = Talk(FakeBackend(), ClientOptions(reply_bytes=1024))
    for number in range(100):
        talk("SET", f"key:{number:03}", "x" * 100)
    refused(talk("KEYS", "*"), "ERR", "1024")
    refused(talk("MGET", *[f"key:{number:03}" for number in range(20)]), "ERR", "reply_bytes")
    assert len(scan_all(talk, "COUNT", 1000)) == 100


def test_names_in_any_letters(talk):
    """GET, get and gEt are one command."""
    assert talk("sEt", "k", "v") == OK
    assert talk("get", "k") == talk("gEt", "k") == b"v"


def test_errors_read_as_those_of_redis(talk):
    """Clients recognise the texts for unknown commands and wrong numbers of arguments."""
    assert talk.raw("NOPE", "a", "b") == b"-ERR unknown command 'NOPE', with args beginning with: 'a' 'b'\r\n"
    assert talk.raw("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert talk.raw("get", "a", "b") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert talk.raw(b"\xff\r\n+OK").count(b"\r\n") == 1
    assert talk.shared.errors_count == 4


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_commands_that_are_not_offered_say_why(talk, name):
    """Nothing is both offered and refused, and each refusal has a reason."""
    assert name not in COMMANDS
    refused(talk(name.lower(), "k", "v"), "ERR", f"{name} is not offered: ")


def test_keys_that_are_no_text(talk):
    """A key that is not UTF-8 is refused by every command that takes one, not stored as something else."""
    for words in (["GET"], ["SET", b"\xff", "v"], ["DEL"], ["EXISTS"], ["MM.READ"], ["MM.PUT", b"\xff", "v"], ["TTL"]):
        command = words if len(words) > 1 else [words[0], b"\xff"]
        refused(talk(*command), "INVALID", "UTF-8")


def test_too_large_a_value_is_refused_by_name(talk, backend):
    """The store's limit is named, and the write is said not to have happened."""
    refused(
        talk("SET", "k", b"x" * (backend.limits.value_bytes + 1)), "INVALID", "value_bytes", "certainly not written"
    )
    refused(talk("SET", "", "v"), "INVALID", "key_bytes")


@pytest.mark.parametrize(
    ("error", "code", "fate"),
    [
        (StoreFailed("disk full"), "STORE", "may have been written"),
        (ClockAhead("ahead by 9 minutes"), "CLOCKAHEAD", "certainly not written"),
        (AckTimeout("one of three", confirmed=1, wanted=3), "UNAVAILABLE", "may have been written"),
        (ResolverError("merge_carts raised"), "RESOLVER", "certainly not written"),
        (ZeroDivisionError("a defect"), "ERR", "may have been written"),
    ],
)
def test_the_fate_of_a_write_is_told(talk, backend, error, code, fate):
    """Each branch of errors has its code; the answer says whether the write may have happened."""
    backend.trouble = error
    reply = talk("SET", "k", "v")
    refused(reply, code, fate)
    if isinstance(error, ZeroDivisionError):
        assert "a defect" not in reply.text  # details of defects go to the log, not to clients


def test_reads_say_nothing_about_writing(talk, monkeypatch):
    """An error of a read has no word about fate."""

    def broken(key, default):
        raise ResolverError("merge_carts raised")

    monkeypatch.setattr(talk.session.table, "get", broken)
    assert talk("GET", "k") == Failure("RESOLVER", "merge_carts raised")


# -- the connection


def test_ping_echo_time_select(talk):
    """The small ones."""
    assert talk("PING") == Simple("PONG")
    assert talk("PING", "x") == talk("ECHO", "x") == b"x"
    seconds, micros = talk("TIME")
    assert int(seconds) > 1_600_000_000
    assert 0 <= int(micros) < 1_000_000
    assert talk("SELECT", 0) == OK
    refused(talk("SELECT", 1), "ERR", "MM.TABLE")
    refused(talk("SELECT", "x"), "ERR", "not an integer")


def test_hello(talk):
    """HELLO switches versions, and refuses those that there are not."""
    facts = talk("HELLO")
    assert facts[:4] == [b"server", b"mmrepl", b"version", b"7.0.0"]
    facts = talk("HELLO", 3, "SETNAME", "me")
    assert facts[b"proto"] == 3
    assert talk.raw("GET", "none") == b"_\r\n"
    assert talk("CLIENT", "GETNAME") == b"me"
    refused(talk("HELLO", 4), "NOPROTO")
    refused(talk("HELLO", 2, "WHAT"), "ERR", "HELLO option 'WHAT'")
    assert talk.session.protocol == 3
    talk("HELLO", 2)
    assert talk.raw("GET", "none") == b"$-1\r\n"


def test_without_a_password(talk):
    """AUTH of a password that there is not is an error; as the default user it is not."""
    refused(talk("AUTH", "x"), "ERR", "without any password")
    assert talk("AUTH", "default", "x") == OK


def test_nothing_is_done_before_auth():
    """Every command but a few answers NOAUTH, whether it exists or not; the right password changes that."""
    talk = Talk(FakeBackend(), ClientOptions(password="grüße", refusals=1000))
    for spec in COMMANDS.values():
        if "no_auth" not in spec.flags:
            assert talk.raw(spec.name, "a", "b") == b"-NOAUTH Authentication required.\r\n"
    assert talk.raw("nope") == b"-NOAUTH Authentication required.\r\n"
    refused(talk("HELLO", 3), "NOAUTH")
    refused(talk("AUTH", "wrong"), "WRONGPASS")
    refused(talk("AUTH", "root", "grüße"), "WRONGPASS")
    refused(talk("HELLO", 3, "AUTH", "default", "wrong"), "WRONGPASS")
    assert talk.session.protocol == 2
    assert talk("AUTH", "grüße") == OK
    assert talk("SET", "k", "v") == OK
    assert talk("RESET") == Simple("RESET")
    refused(talk("GET", "k"), "NOAUTH")
    assert talk("HELLO", 3, "AUTH", "default", "grüße")[b"proto"] == 3
    assert talk("GET", "k") == b"v"


def test_a_planted_hole_in_the_gate_is_caught(monkeypatch):
    """Were one command let through before AUTH, the test above would see it."""
    talk = Talk(FakeBackend(), ClientOptions(password="x"))
    hole = {**talk.shared.lookup.strangers, b"GET": talk.shared.lookup.everybody[b"GET"]}
    monkeypatch.setattr(talk.session, "lookup", hole)
    assert talk.raw("GET", "a") != b"-NOAUTH Authentication required.\r\n"


def test_whoever_keeps_trying_is_closed():
    """After ``refusals`` refused commands and wrong passwords the connection ends."""
    talk = Talk(FakeBackend(), ClientOptions(password="x", refusals=3))
    talk("GET", "k")
    talk("AUTH", "y")
    assert not talk.session.closing
    talk("AUTH", "z")
    assert talk.session.closing


def test_reset_forgets_choices(talk):
    """RESET: version 2, default table, no name, the store's durability."""
    talk("HELLO", 3, "SETNAME", "me")
    talk("MM.TABLE", "drafts")
    talk("MM.DURABILITY", "none")
    assert talk("RESET") == Simple("RESET")
    assert (talk("MM.TABLE"), talk("CLIENT", "GETNAME"), talk("MM.DURABILITY")) == (b"", None, b"sync")


def test_client(talk):
    """CLIENT and its parts; nonsense is refused."""
    assert talk("CLIENT", "GETNAME") is None
    assert talk("CLIENT", "SETNAME", "me") == OK
    assert talk("CLIENT", "SETINFO", "LIB-NAME", "test-lib") == OK
    assert talk("CLIENT", "ID") == 1
    assert talk("CLIENT", "NO-EVICT", "on") == talk("CLIENT", "NO-TOUCH", "off") == OK
    info = talk("CLIENT", "INFO").decode()
    assert "id=1 addr=127.0.0.1:1 " in info
    assert " name=me " in info
    assert "lib-name=test-lib" in info
    Talk(talk.backend, shared=talk.shared)
    assert talk("CLIENT", "LIST").count(b"\n") == 2
    assert talk("CLIENT", "HELP")[0].startswith(b"CLIENT")
    for words in (["SETNAME", "a b"], ["SETINFO", "X", "y"], ["WHAT"], ["NO-EVICT", "maybe"], ["REPLY"], ["KILL", "1"]):
        refused(talk("CLIENT", *words), "ERR")


def test_one_weak_write_is_answered_as_such(talk):
    """MM.PUT … DURABILITY none does not wait, on a connection whose writes do; those around it still do."""
    session = talk.session
    talk("SET", "k", "1")
    strong = session.position
    assert session.must_be_durable == strong
    talk("MM.PUT", "k", "2", "DURABILITY", "none")
    assert session.position > strong
    assert session.must_be_durable == strong
    talk("MM.PUT", "k", "3", "DURABILITY", "sync")
    assert session.must_be_durable == session.position
    talk("MM.PUT", "k", "4", "DURABILITY", "none")
    talk("SET", "k", "5")
    assert session.must_be_durable == session.position


def test_durability(talk, backend):
    """Writes are made at the level chosen; unknown levels are refused."""
    assert talk("MM.DURABILITY") == b"sync"
    talk("SET", "k", "1")
    assert talk("MM.DURABILITY", "BATCH") == OK
    talk("SET", "k", "2")
    talk("MM.PUT", "k", "3", "DURABILITY", "none")
    talk("SET", "k", "4")
    refused(talk("MM.DURABILITY", "maybe"), "ERR", "'sync', 'batch' or 'none'")
    assert backend.levels == [None, Durability.BATCH, Durability.NONE, Durability.BATCH]


# -- what the server says about itself


def test_command(talk3):
    """COMMAND in its four forms agrees with the table."""
    assert talk3("COMMAND", "COUNT") == len(COMMANDS) == len(talk3("COMMAND")) == len(talk3("COMMAND", "LIST"))
    [get, nothing] = talk3("COMMAND", "INFO", "get", "nope")
    assert get[:6] == [b"get", 2, [Simple("readonly"), Simple("fast")], 1, 1, 1]
    assert nothing is None
    docs = talk3("COMMAND", "DOCS", "mm.put", "nope")
    assert list(docs) == [b"mm.put"]
    assert b"context token" in docs[b"mm.put"][b"summary"]
    refused(talk3("COMMAND", "WHAT"), "ERR")


def test_arity_is_that_of_redis():
    """Words, name included; negative when there may be more."""
    assert {name: COMMANDS[name].arity for name in ("GET", "SET", "PING", "DEL", "WAIT", "MSET")} == {
        "GET": 2,
        "SET": -3,
        "PING": -1,
        "DEL": -2,
        "WAIT": 3,
        "MSET": -3,
    }


def test_config(talk):
    """CONFIG GET answers what tools ask; nothing is set, and the password is not told."""
    assert talk("CONFIG", "GET", "save") == [b"save", b""]
    assert talk("CONFIG", "get", "APPENDONLY", "max*") == [
        *(b"appendonly", b"yes"),
        *(b"maxclients", b"1000"),
        *(b"maxmemory", b"0"),
        *(b"maxmemory-policy", b"noeviction"),
    ]
    refused(talk("CONFIG", "SET", "save", ""), "ERR", "CONFIG SET is not offered")
    refused(talk("CONFIG", "GET"), "ERR", "wrong number")
    secret = Talk(FakeBackend(), ClientOptions(password="hush"))
    secret("AUTH", "hush")
    assert b"hush" not in secret.raw("CONFIG", "GET", "*")
    assert "hush" not in repr(secret.shared.options)


def test_info(talk):
    """INFO has sections with facts; one can be asked for alone."""
    talk("SET", "k", "v")
    text = talk("INFO").decode()
    assert "# Server\r\nredis_version:7.0.0\r\n" in text
    assert "db0:keys=1,resolver=last-writer-wins" in text
    assert "operations:1\r\n" in text
    assert talk("INFO", "replication") == b"# Replication\r\nrole:master\r\nconnected_slaves:1\r\n"
    assert talk("INFO", "nothing") == b""


def test_client_reply_reaches_the_flags(talk):
    """OFF and SKIP give no answer; the connection does the dropping."""
    assert talk.raw("CLIENT", "REPLY", "OFF") == b""
    assert talk.session.muted
    assert talk.raw("CLIENT", "REPLY", "ON") == b"+OK\r\n"
    assert talk.raw("CLIENT", "REPLY", "SKIP") == b""
    assert talk.session.skip
