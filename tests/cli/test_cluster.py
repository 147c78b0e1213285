"""status, members, partition, heal: two nodes in this process."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mmrepl.cli.exits import Exit
from mmrepl.cli.status import seconds_text, status_page


@pytest.fixture(autouse=True)
def whole(hosted, paris, tokyo):
    """Every test begins and ends with both nodes connected."""
    yield
    hosted.loop.call_soon_threadsafe(paris.unblock)
    hosted.call(paris.wait_connected("tokyo"))


def test_status(at, tokyo):
    """Members, tables with policies, version: for people, and in JSON as the node says it."""
    found = at("status", "--json").json
    assert (found["name"], [member["name"] for member in found["members"]]) == ("paris", ["paris", "tokyo"])
    shown = at("status").out
    for word in ("paris", "tokyo", "live", "keep-siblings", tokyo.address, "in memory"):
        assert word in shown


def test_members(at, paris, tokyo):
    """A row each, with the address."""
    shown = at("members").out
    assert paris.address in shown
    assert tokyo.address in shown
    assert at("members", "--json").json[0]["state"] == "self"


def test_a_drill(at, hosted, paris, tokyo):
    """Partitioned, the peer is gone and lags; healed, it catches up."""
    assert at("partition", "tokyo", "--json").json == {"node": "paris", "blocked": ["tokyo"]}
    hosted.call(paris.wait_until(lambda: not list(paris.core.up()), "the cut"))
    at("put", "alone", "1")
    member = at("status", "--json").json["members"][1]
    assert (member["state"], member["behind"]) == ("gone", 1)
    shown = at("status").out
    assert "cut off from tokyo" in shown
    assert at("heal", "tokyo").out == "paris is cut off from nobody\n"
    hosted.call(tokyo.wait_until(lambda: tokyo.get("alone") == 1, "the heal"))


def test_a_drill_with_nobody(at):
    """A name that is no member's is refused, by name."""
    ran = at("partition", "atlantis")
    assert (ran.code, "atlantis" in ran.err) == (Exit.USAGE, True)


def test_taking_a_member_out(run, hosted):
    """It is no member any longer; neither name nor address of nobody can be taken out."""
    oslo = hosted.start("oslo", peers=["127.0.0.1:1"])
    rome = hosted.start("rome", peers=[oslo.address])
    hosted.call(oslo.wait_connected("rome"))
    node = ("--node", oslo.client_address)
    ran = run("remove", "rome", "--json", *node)
    assert ran.code == Exit.OK
    assert [row["name"] for row in ran.json["members"]] == ["oslo", None]
    hosted.call(rome.wait_until(lambda: rome.status()["removed"], "hearing of it"))
    assert run("remove", "127.0.0.1:1", *node).out == "127.0.0.1:1 is taken out; there are oslo\n"
    assert run("remove", "127.0.0.1:1", *node).code == Exit.USAGE
    assert run("remove", "atlantis", *node).code == Exit.USAGE


def test_watching_status(process, paris):
    """A line of JSON each look, until interrupted."""
    watch = process("status", "--watch", "--json", "--every", "0.01", "--node", paris.client_address)
    assert [watch.line()["name"] for _ in range(3)] == ["paris"] * 3
    watch.process.stdout.close()
    watch.process.stdout = None
    assert watch.end().code == Exit.PIPE


def test_everything_that_may_be_wrong_is_shown(at):
    """Each trouble that the status can name has its line."""
    found = at("status", "--json").json
    found |= {
        "blocked": ["lima"],
        "holding_back": ["oslo"],
        "held_origins": ["rome~1 (+5 ms)"],
        "doubt": "it was copied",
        "removed": True,
        "warnings": ["policies differ"],
        "complaints": ["somebody lied"],
        "siblings": {"keys": 2, "most": 3},
        "snapshots": {"sent": 1, "installed": 2},
        "storage": {"path": "x.db", "failure": "it broke", "full": None},
    }
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status_page(found))
    shown = console.export_text()
    for word in (
        "lima",
        "oslo",
        "rome",
        "copied",
        "removed",
        "policies differ",
        "lied",
        "2 keys",
        "1 sent",
        "it broke",
    ):
        assert word in shown


def test_durations():
    """Short ones to the tenth, long ones by unit, unknown ones as a dash."""
    assert [seconds_text(s) for s in (None, 0.04, 9.96, 61, 90_000)] == ["–", "0.0 s", "10.0 s", "1 min 1 s", "1 d 1 h"]
