"""The front door: help, mistakes, the extra that is missing, output that nobody reads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmrepl.cli import NEEDS
from mmrepl.cli.app import GROUPS
from mmrepl.cli.exits import Exit
from tests.cli.conftest import HERE

COMMANDS = [function.__name__ for _, functions in GROUPS for function in functions]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_does(run, name):
    """``--help`` names every option, and leaves none without a word."""
    ran = run(name, "--help")
    assert ran.code == Exit.OK
    assert f"mmrepl {name}" in ran.out
    assert "--json" in ran.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("puut", "a", "b"), "Unknown command"),
        (("put", "a"), "VALUE"),
        (("put", "a", "b", "--nodee", "x"), "--node"),
        (("put", "a", "b", "--as", "yaml"), "--as"),
        (("get", "a", "b"), "Unused"),
        (("get", "a", "--timeout", "0"), "--timeout"),
        (("get", "a", "--node", "nowhere"), "no port"),
        (("get", "a", "--password-file", "/nonexistent"), "password"),
        (("put", "a", "b", "--blind", "--context", "x"), "exclude"),
        (("scan", "--limit", "0"), "--limit"),
        (("status", "--every", "0"), "--every"),
        (("watch", "--start", "--since", "-"), "exclude"),
        (("log", "--last", "0"), "--last"),
        (("log", "--since", "zz!"), "is no token"),
    ],
)
def test_a_mistake_is_one_line_and_two(run, words, why):
    """Asked wrongly: a line that says what, and the exit code 2; nobody was asked, nothing is on standard output."""
    ran = run(*words)
    assert ran.code == Exit.USAGE
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert why in ran.err


def test_nobody_answers(run):
    """One line that names the address, and 3."""
    ran = run("get", "k", "--node", "127.0.0.1:1")
    assert (ran.code, ran.err.count("\n")) == (Exit.UNAVAILABLE, 1)
    assert "127.0.0.1:1" in ran.err


def test_the_node_may_stand_in_the_environment(run, monkeypatch):
    """MMREPL_NODE is asked when no --node is given."""
    monkeypatch.setenv("MMREPL_NODE", "127.0.0.1:2")
    assert "127.0.0.1:2" in run("get", "k").err


def test_debug_shows_where(run):
    """The traceback, only when it is asked for."""
    assert "Traceback" in run("get", "k", "--node", "127.0.0.1:1", "--debug").err
    assert "Traceback" not in run("get", "k", "--node", "127.0.0.1:1").err


def test_a_defect_is_one_line_too(run, monkeypatch):
    """What nobody meant to raise is called a defect, with 70, and not shown as a traceback."""
    monkeypatch.setattr("mmrepl.cli.keys.Remote", lambda _reach: 1 / 0)
    ran = run("get", "k")
    assert (ran.code, ran.err.count("\n")) == (Exit.DEFECT, 1)
    assert "ZeroDivisionError" in ran.err


@pytest.mark.parametrize("missing", sorted(NEEDS))
def test_without_the_extra(missing):
    """One clear line about what to install, and 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from mmrepl.cli import main; sys.exit(main(['--help']))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, cwd=HERE, check=False
    )
    assert (ran.returncode, ran.stderr.count("\n"), ran.stdout) == (2, 1, "")
    assert 'pip install "mmrepl[cli]"' in ran.stderr


def test_nobody_reads(process):
    """``mmrepl --help | true`` ends without a complaint."""
    one = process("--help")
    one.process.stdout.close()
    one.process.stdout = None
    ran = one.end()
    assert (ran.err, ran.code) == ("", Exit.PIPE)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_each_shell(run, tmp_path, monkeypatch, shell):
    """In the home of whoever asks; the script knows the commands and their options, and the answer says where it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ran = run("--install-completion", "--shell", shell)
    assert ran.code == Exit.OK
    scripts = [path for path in tmp_path.rglob("*mmrepl*") if path.is_file()]
    assert len(scripts) == 1
    assert scripts[0].name in "".join(ran.out.split())
    text = scripts[0].read_text()
    assert all(word in text for word in ("serve", "log-operations", "partition"))
