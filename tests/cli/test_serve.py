"""serve: a node as a process."""

from __future__ import annotations

import os
import signal
import socket
from types import SimpleNamespace

import pytest

from mmrepl import Replica
from mmrepl.cli.exits import Exit
from mmrepl.cli.narrator import SIBLINGS_TOLD, Narrator
from mmrepl.cli.options import Reach
from mmrepl.cli.policies import parse_policy, parse_tables
from mmrepl.cli.remote import Remote
from mmrepl.errors import UsageError
from mmrepl.replication.peer import PeerChanged, PeerState
from mmrepl.runtime.outcomes import SiblingsEvent

PORTS = ("--listen", "127.0.0.1:0", "--client", "127.0.0.1:0")


def events(ran, first):
    return [first["event"], *(event["event"] for event in ran.lines)]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(process, tmp_path, number, loop):
    """It tells its ports, answers, stops cleanly at a signal with 0, and the file is in order."""
    node = process("serve", "paris", *PORTS, "--path", "paris.db", "--json", "--loop", loop)
    started = node.line()
    assert (started["event"], started["name"]) == ("started", "paris")
    with Remote(Reach(node=started["client"])) as remote:
        remote.put("k", "v")
    ran = node.end(number)
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert events(ran, started) == ["started", "stopping", "stopped"]
    with Replica("paris", tmp_path / "paris.db") as paris:
        assert paris.doubt is None
        assert paris["k"] == "v"


def test_peers_and_siblings_are_told(process):
    """Who comes, who goes and why, and siblings, as they happen."""
    tokyo = process("serve", "tokyo", *PORTS, "--json", "--table", "drafts=siblings")
    address = tokyo.line()["address"]
    paris = process("serve", "paris", *PORTS, "--json", "--table", "drafts=siblings", "--peer", address)
    client = paris.line()["client"]
    told = []

    def until(condition):
        while not told or not condition(told[-1]):
            told.append(paris.line())

    until(lambda event: event["event"] == "live")
    with Remote(Reach(node=client)) as remote:
        remote.use("drafts")
        remote.put("d", 1)
        remote.put("d", 2, blind=True)
    until(lambda event: event["event"] == "siblings")
    assert (told[-1]["key"], told[-1]["kind"], len(told[-1]["dots"])) == ("d", "appeared", 2)
    assert tokyo.end(signal.SIGTERM).code == Exit.OK
    until(lambda event: event["event"] == "gone")
    assert told[-1]["peer"] == "tokyo"
    assert paris.end(signal.SIGTERM).code == Exit.OK


def test_options_from_a_file(process, tmp_path):
    """A TOML file gives options; the command line wins; an option that does not exist is refused."""
    (tmp_path / "paris.toml").write_text(
        'client = "none"\nlisten = "127.0.0.1:0"\ntable = ["drafts=siblings"]\npath = "wrong.db"\ncluster = "x"\n'
    )
    node = process("serve", "paris", "--config", "paris.toml", "--path", "right.db", "--json")
    started = node.line()
    assert (started["client"], started["path"]) == (None, "right.db")
    assert node.end(signal.SIGTERM).code == Exit.OK


@pytest.mark.parametrize(
    ("text", "why"),
    [('clinet = "none"\n', "clinet"), ("x = [", "not TOML"), (None, "cannot read"), ("listen = 7\n", "no port")],
)
def test_a_bad_file_of_options(run, tmp_path, text, why):
    """One line that names the file or the option, and 2."""
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    ran = run("serve", "paris", "--config", str(path))
    assert (ran.code, ran.err.count("\n"), ran.out) == (Exit.USAGE, 1, "")
    assert why in ran.err


def test_what_it_cannot_do(run, tmp_path, monkeypatch):
    """Each is one line and its code, before anything runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.db").write_bytes(b"no store of ours" * 100)
    (tmp_path / "empty").write_bytes(b"\n")
    with Replica("tokyo", tmp_path / "tokyo.db"):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken, Replica("lima", tmp_path / "lima.db"):
        port = f"127.0.0.1:{taken.getsockname()[1]}"
        cases = [
            (("paris", "--listen", port, "--client", "none"), Exit.UNAVAILABLE, "in use"),
            (("paris", "--listen", "127.0.0.1:0", "--client", port), Exit.UNAVAILABLE, "in use"),
            (("paris", *PORTS, "--path", "foreign.db"), Exit.STORAGE, "foreign.db"),
            (("paris", *PORTS, "--path", "tokyo.db"), Exit.STORAGE, "tokyo"),
            (("lima", *PORTS, "--path", "lima.db"), Exit.STORAGE, "open"),
            (("paris", *PORTS, "--path", "no/such/folder.db"), Exit.STORAGE, "directory"),
            (("paris", "--listen", "0.0.0.0:0"), Exit.USAGE, "--secret-file"),
            (("paris", "--listen", "127.0.0.1:0", "--client", "0.0.0.0:0"), Exit.USAGE, "--password-file"),
            (("paris", "--listen", "127.0.0.1:99999"), Exit.USAGE, "99999"),
            (("paris", "--secret-file", "none"), Exit.USAGE, "secret"),
            (("paris", "--tls-key", "empty"), Exit.USAGE, "--tls-authority, both"),
            (("paris", "--tls-certificate", "empty", "--tls-authority", "none"), Exit.USAGE, "in none: No such file"),
            (("paris", "--tls-certificate", "x.pem", "--tls-authority", "empty"), Exit.USAGE, "authority in empty"),
            (("paris", "--secret-file", "empty"), Exit.USAGE, "empty"),
            (("paris", "--log-operations", "0"), Exit.USAGE, "--log-operations"),
            (("paris", *PORTS, "--until-eof"), Exit.USAGE, "pipe"),
            (("paris", "--log-bytes", "0"), Exit.USAGE, "--log-bytes"),
            (("paris", "--log-age", "-3"), Exit.USAGE, "--log-age"),
            (("paris", "--table", "drafts"), Exit.USAGE, "NAME=POLICY"),
            (("", *PORTS), Exit.USAGE, "empty"),
        ]
        for words, code, why in cases:
            ran = run("serve", *words)
            assert (ran.code, ran.err.count("\n"), ran.out) == (code, 1, ""), (words, ran)
            assert why in ran.err, (words, ran)


def test_a_secret_and_a_password(process, tmp_path):
    """With them, addresses beyond this machine are allowed, and a client without the password is refused."""
    (tmp_path / "word").write_text("hush\n")
    node = process("serve", "paris", *PORTS, "--secret-file", "word", "--password-file", "word", "--json")
    client = node.line()["client"]
    with pytest.raises(UsageError), Remote(Reach(node=client)) as remote:
        remote.put("k", 1)
    with Remote(Reach(node=client, password_file=tmp_path / "word")) as remote:
        remote.put("k", 1)
    assert node.end(signal.SIGTERM).code == Exit.OK


# -- policies


def test_policies():
    """The three forms, by name."""
    assert [parse_policy(text).policy for text in ("lww", "siblings")] == ["last-writer-wins", "keep-siblings"]
    found = parse_policy("callback:mmrepl.cli.demo.resolvers:merge_carts")
    assert found.policy == "callback mmrepl.cli.demo.resolvers:merge_carts"
    assert list(parse_tables(["a=b=lww", "c=siblings"])) == ["a=b", "c"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("newest", "no policy"),
        ("lww:x", "no policy"),
        ("callback:", "no policy"),
        ("callback:module", "no policy"),
        ("callback:no.such.module:f", "cannot be imported"),
        ("callback:os.path:no_such", "no 'no_such'"),
        ("callback:os:sep", "needs a function"),
        ("callback:this_one_raises:f", "ZeroDivisionError"),
    ],
)
def test_policies_that_are_none(tmp_path, monkeypatch, text, why):
    """Refused, with what is expected."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "this_one_raises.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match=why):
        parse_policy(text)


def test_a_table_with_two_policies():
    """Which one is meant? Refused."""
    with pytest.raises(UsageError, match="two policies"):
        parse_tables(["a=lww", "a=siblings"])


# -- telling


def test_many_siblings_are_counted(capsys):
    """However many keys get siblings at once, few lines are printed."""
    narrator = Narrator(json=False)
    for number in range(1000):
        narrator._siblings.append(SiblingsEvent("appeared", "t", f"k{number}", ()))
    narrator._tell_siblings()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == SIBLINGS_TOLD + 1
    assert f"{1000 - SIBLINGS_TOLD} more keys" in lines[-1]


def test_a_peer_that_dials_in_vain_is_told_of_once(capsys):
    """Refused again and again, it is gone once; back for good, it is told of again."""
    narrator = Narrator(json=False)
    node = SimpleNamespace(core=SimpleNamespace(peers={}))
    for _ in range(100):
        narrator._peer(node, PeerChanged("tokyo", PeerState.CATCHING_UP))
        narrator._peer(node, PeerChanged("tokyo", PeerState.GONE, "refused"))
    narrator._member({"name": "tokyo", "state": "live", "address": "127.0.0.1:1"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("Z  ")[2] for line in lines] == ["tokyo is gone: refused", "tokyo is live"]


def test_a_node_outlives_whoever_reads_its_log(process):
    """Its log has nowhere to go any more; the node goes on, and stops cleanly."""
    node = process("serve", "paris", *PORTS, "--json")
    started = node.line()
    node.process.stdout.close()
    node.process.stdout = None
    with Remote(Reach(node=started["client"])) as remote:
        remote.use("drafts")
        remote.put("d", 1)
        remote.put("d", 2, blind=True)
        os.kill(started["pid"], 0)
    assert node.end(signal.SIGTERM).code == Exit.OK
