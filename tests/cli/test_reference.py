"""The reference page and the commands say the same."""

from __future__ import annotations

from pathlib import Path

from mmrepl.cli.app import GROUPS
from mmrepl.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def test_the_page_holds_the_commands():
    """What stands between the marks is made of the commands; on a difference, put `reference()` there."""
    text = PAGE.read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- commands: begin -->\n")
    told, mark, _ = rest.partition("<!-- commands: end -->")
    assert mark
    assert told.strip() == reference().strip()


def test_every_command_and_option_is_told():
    """Each has a sentence; a switch shows no value, a choice its choices."""
    text = reference()
    for _, functions in GROUPS:
        for function in functions:
            assert f"#### {function.__name__}\n" in text
    for row in text.splitlines():
        if row.startswith("| `"):
            assert row.removesuffix("|").rstrip().endswith("."), row
    assert "`--durability sync\\|batch\\|none`" in text
    assert "`--insecure`" in text
    assert "`--election-ms NUMBER NUMBER`" in text
    assert "<class" not in text
    assert text.count("`--password-file FILE`") == 2  # serve's own, and that of the commands that ask
