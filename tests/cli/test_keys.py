"""put, get, read, delete, scan: against a real node in this process."""

from __future__ import annotations

import pytest

from mmrepl.cli.exits import Exit


def test_put_and_get(at):
    """A value comes back as it was typed, and as exactly that with --raw."""
    assert at("put", "greeting", "bonjour").code == Exit.OK
    assert at("get", "greeting").out == "bonjour\n"
    assert at("get", "greeting", "--raw").raw == b"bonjour"
    at("put", "n", "[1, 2.0, null]")
    assert at("get", "n").out == "[1,2.0,null]\n"
    found = at("get", "n", "--json").json
    assert (found["present"], found["type"], found["value"], found["siblings"]) == (True, "list", [1, 2.0, None], 1)


def test_bytes(at):
    """Any byte goes in by standard input, and comes out again."""
    data = bytes(range(256)) + b"\n"
    assert at("put", "blob", "-", "--as", "bytes", stdin=data).code == Exit.OK
    assert at("get", "blob", "--raw").raw == data
    assert at("get", "blob", "--json").json["type"] == "bytes"


def test_standard_input_is_a_value_without_its_last_newline(at):
    """``echo 17 | mmrepl put n -`` writes 17."""
    at("put", "n", "-", stdin=b"17\n")
    assert at("get", "n", "--json").json["value"] == 17
    at("put", "n", "-", "--as", "string", stdin=b"two\nlines\n")
    assert at("get", "n", "--json").json["value"] == "two\nlines"
    assert at("put", "n", "-", stdin=b"\xff").code == Exit.USAGE


def test_absent(at):
    """A question whose answer is no ends with 1; standard output stays empty."""
    for words in (("get", "nope"), ("delete", "nope")):
        ran = at(*words)
        assert (ran.code, ran.out) == (Exit.NO, "")
        assert "absent" in ran.err
    assert at("get", "nope", "--json").json["present"] is False
    assert at("read", "nope", "--json").json["siblings"] == []
    assert at("delete", "nope", "--json").json["dot"] is None


def test_delete(at):
    """What was deleted is absent; its tombstone can be read."""
    at("put", "k", "1")
    dot = at("delete", "k", "--json", "--durability", "batch").json["dot"]
    assert at("get", "k").code == Exit.NO
    found = at("read", "k", "--json")
    assert found.code == Exit.NO
    assert [(s["dot"], s["deleted"]) for s in found.json["siblings"]] == [(dot, True)]
    assert "deleted" in at("read", "k").out


def test_a_context_replaces_exactly_what_was_read(at):
    """What came in between stays as a sibling; --blind replaces nothing."""
    at("put", "letter", "a", "--table", "drafts")
    context = at("read", "letter", "--table", "drafts", "--json").json["context"]
    at("put", "letter", "b", "--table", "drafts", "--blind")
    at("put", "letter", "c", "--table", "drafts", "--context", context)
    found = at("read", "letter", "--table", "drafts", "--json").json
    assert found["value"] == ["b", "c"]
    assert [sibling["shown"] for sibling in found["siblings"]] == [True, True]
    ran = at("get", "letter", "--table", "drafts")
    assert (ran.out, "2 siblings" in ran.err) == ('["b","c"]\n', True)
    assert at("delete", "letter", "--table", "drafts", "--context", found["context"]).code == Exit.OK
    assert at("get", "letter", "--table", "drafts").code == Exit.NO


def test_who_lost(at):
    """Under last-writer-wins, read shows the winner and the loser."""
    at("put", "k2", "first")
    at("put", "k2", "second", "--blind")
    shown = at("read", "k2").out
    assert 'value     "second"' in shown
    assert "lost" in shown


@pytest.mark.parametrize("word", ["-", "zzz", "AAAA"])
def test_a_wrong_context_writes_nothing(at, word):
    """A token that is none, or of another key, is refused; the empty one is a blind write."""
    at("put", "other", "1")
    ran = at("put", "other", "2", "--context", word)
    assert ran.code == (Exit.OK if word == "-" else Exit.USAGE)
    context = at("read", "other", "--json").json["context"]
    refused = at("put", "another", "2", "--context", context)
    assert (refused.code, at("get", "another").code) == (Exit.USAGE, Exit.NO)


def test_acknowledgements(at, tokyo):
    """With --acks the write has reached so many members when the command ends."""
    ran = at("put", "everywhere", "1", "--acks", "all", "--json")
    assert ran.json["confirmed"] == 2
    assert tokyo.get("everywhere") == 1
    assert at("put", "everywhere", "2", "--acks", "majority").out.endswith("confirmed by 2 members\n")
    assert at("delete", "everywhere", "--acks", "2").code == Exit.OK
    assert at("put", "k", "1", "--acks", "some").code == Exit.USAGE
    assert at("put", "k", "1", "--acks", "0").code == Exit.USAGE


def test_too_few_acknowledgements(at, tokyo):
    """A write that too few confirmed ends with 3, says that it may spread all the same, and is there."""
    ran = at("put", "lonely", "1", "--acks", "3", "--within", "0.1")
    assert (ran.code, ran.out) == (Exit.UNAVAILABLE, "")
    assert "do not repeat it" in ran.err
    assert at("get", "lonely").out == "1\n"


def test_scan(at):
    """Keys in order, by pattern, with values if wanted; one line of JSON each."""
    for number in (3, 1, 2):
        at("put", f"scan:{number}", str(number), "--table", "drafts")
    assert at("scan", "scan:*", "--table", "drafts").out.split() == ["scan:1", "scan:2", "scan:3"]
    found = at("scan", "scan:*", "--table", "drafts", "--values", "--json", "--limit", "2").lines
    assert [(entry["key"], entry["value"]) for entry in found] == [("scan:1", [1]), ("scan:2", [2])]
    assert at("scan", "nothing*").code == Exit.OK


def test_more_keys_than_a_page(at, hosted, paris):
    """A scan goes on until the end."""

    async def fill():
        for number in range(1500):
            await paris.put(f"many:{number:04}", number, durability="none")

    hosted.call(fill())
    assert len(at("scan", "many:*").out.split()) == 1500


def test_odd_keys_do_not_move_the_cursor(at):
    """A key with an escape sequence is shown escaped in a list, and exact in JSON."""
    at("put", "odd\x1b[2J\n", "1")
    ran = at("scan", "odd*")
    assert "\x1b" not in ran.out
    assert ran.out.count("\n") == 1
    assert at("scan", "odd*", "--json").lines[0]["key"] == "odd\x1b[2J\n"


@pytest.mark.parametrize("key", ["", "k" * 1025, "\udcff"])
def test_keys_outside_the_domain(at, key):
    """An empty or long key, or one that is no text: 2, and a line that says why."""
    ran = at("put", key, "1")
    assert (ran.code, ran.err.count("\n")) == (Exit.USAGE, 1)


def test_a_resolver_that_fails(at):
    """It is named, ends with 5, and the siblings stay."""
    at("put", "k", "1", "--table", "quarrels")
    at("put", "k", "2", "--table", "quarrels", "--blind")
    ran = at("get", "k", "--table", "quarrels")
    assert ran.code == Exit.CANNOT
    assert "quarrel" in ran.err
    assert ran.err.count("\n") == 1
