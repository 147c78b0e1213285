"""The command that compares the modes."""

from __future__ import annotations

import orjson

from mmrepl.cli.exits import Exit

SHORT = ("compare", "--mode", "lww", "--mode", "async", "--duration", "3", "--nodes", "3")


def test_a_table_for_people_and_a_page(run, tmp_path):
    """Columns for the modes, and a page where it was asked for."""
    page = tmp_path / "compare.html"
    ran = run(*SHORT, "--html", str(page))
    assert ran.code == Exit.OK
    assert "acknowledged writes lost" in ran.out
    assert "lww" in ran.out
    assert page.read_text().startswith("<!doctype html>")


def test_data_for_programs(run):
    """One document."""
    ran = run(*SHORT, "--json")
    found = orjson.loads(ran.raw)
    assert [mode["mode"] for mode in found["modes"]] == ["lww", "async"]
    assert found["script"].startswith("600 isolate")


def test_modes_are_named(run):
    """All of them."""
    assert "elected-linearizable" in run("compare", "--names").out


def test_wrong_words_are_refused(run, tmp_path):
    """In one line."""
    for words, why in (
        (("--mode", "raft"), "no mode is called"),
        (("--nodes", "9"), "--nodes"),
        (("--script", "soon heal"), "fault script"),
        (("--workload", "nothing"), "no workload"),
        (("--html", str(tmp_path / "no" / "page.html")), "no folder"),
        (("--duration", "0"), "--duration"),
    ):
        ran = run("compare", *words)
        assert ran.code == Exit.USAGE, words
        assert why in ran.err
