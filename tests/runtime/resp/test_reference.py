"""The reference page and the command table say the same."""

from __future__ import annotations

from pathlib import Path

from mmrepl.runtime.resp.commands import COMMANDS
from mmrepl.runtime.resp.refused import REFUSED
from mmrepl.runtime.resp.table import reference
from mmrepl.wire.resp_errors import CODES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "client-port.md"


def test_the_page_holds_the_table():
    """The commands between the marks are those of the table; on a difference, put `reference()` there."""
    text = PAGE.read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- commands: begin -->\n")
    table, mark, _ = rest.partition("<!-- commands: end -->")
    assert mark
    assert table.strip() == reference().strip()


def test_the_page_names_every_code_of_error():
    """Whoever sees a code can look it up."""
    text = PAGE.read_text(encoding="utf-8")
    for _kind, code in CODES:
        assert f"`{code}`" in text


def test_every_command_is_fit_to_be_shown():
    """A summary is a sentence, a syntax is one line, arity and flags are sound."""
    for name, spec in COMMANDS.items():
        assert spec.name == name == name.upper()
        assert spec.summary.endswith((".", "absent.")), name
        assert "\n" not in spec.syntax
        assert 1 <= spec.least <= spec.most
        assert set(spec.flags) <= {"readonly", "write", "fast", "admin", "no_auth", "blocking"}
    assert not set(COMMANDS) & set(REFUSED)
