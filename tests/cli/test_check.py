"""`mmrepl check`: a merge function refuted or let be, from the shell."""

from __future__ import annotations

import json

import pytest

from mmrepl.cli import main


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(["check", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_right_function_ends_with_0(capsys):
    """And says what was tried."""
    code, out, _ = run(capsys, "tests.testing.wrong:union", "--examples", "5")
    assert code == 0
    assert out.startswith("union: ")


@pytest.mark.parametrize("values", ["texts", '[["tea"], ["milk"]]'])
def test_a_wrong_function_ends_with_1_and_its_story(capsys, values):
    """The sentence first, the diagram, the test to paste."""
    code, out, _ = run(capsys, "tests.testing.wrong:returns_set", "--values", values, "--examples", "5")
    assert code == 1
    assert out.startswith("returns_set answers what cannot be stored")
    assert "def test_returns_set_answers_with_a_value():" in out


def test_in_json_the_parts_stand_apart(capsys):
    """For programs."""
    code, out, _ = run(capsys, "tests.testing.wrong:merge_left", "--merge", "--values", "int", "--json")
    told = json.loads(out)
    assert (code, told["refuted"], told["kind"]) == (1, True, "not commutative")
    assert told["answers"][0][0] == "a with b"
    code, out, _ = run(capsys, "tests.testing.wrong:a_resolver", "--examples", "3", "--values", "texts", "--json")
    assert (code, json.loads(out)["refuted"]) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shop"], "what to check is MODULE:FUNCTION"),
        (["no.such.module:f"], "cannot be imported"),
        (["tests.testing.wrong:nothing"], "there is no 'nothing'"),
        (["tests.testing.wrong:union", "--values", "carts"], "--values takes json, texts"),
        (["tests.testing.wrong:union", "--examples", "0"], "at least 1"),
        (["tests.testing.wrong:union", "--seconds", "0"], "more than 0"),
        (["tests.testing.wrong:calls"], "needs a Resolver, or a function of a list of values"),
        (["tests.testing.wrong:merge_left"], "checked by check_merge"),
    ],
)
def test_what_was_asked_wrongly_ends_with_2(capsys, arguments, message):
    """One line that says what was expected."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
