"""The documents are really run: a block that fails, fails."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from sybil.document import Document

from tests.docs.blocks import PythonBlocks, enter_scratch_folder, leave_scratch_folder


def run(text: str) -> dict:
    """Run the blocks of *text* as the integration with pytest does; gives the namespace."""
    document = Document(textwrap.dedent(text), "page.md")
    for region in PythonBlocks()(document):
        document.add(region)
    enter_scratch_folder(document.namespace)
    try:
        for example in document.examples():
            example.evaluate()
    finally:
        leave_scratch_folder(document.namespace)
    return document.namespace


def test_blocks_share_a_namespace_and_run_in_order():
    """A later block uses the names of an earlier one."""
    assert (
        run("""
        ```python
        a = 1
        ```
        ```python
        b = a + 1
        ```
        """)["b"]
        == 2
    )


def test_other_languages_are_not_run():
    """console and text are for people."""
    assert "a" not in run("""
        ```console
        $ a = 1
        ```
        ```text
        a = 1
        ```
        """)


def test_a_block_may_await_and_what_it_starts_lives_on():
    """One event loop serves the whole document."""
    names = run(
        """
        ```python
        import asyncio
        done = asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        ```
        ```python
        done.set_result("heard")
        answer = await done
        ```
        """.replace("done = asyncio", "await asyncio.sleep(0); done = asyncio")
    )
    assert names["answer"] == "heard"


@pytest.mark.parametrize(
    "text",
    [
        "```python\nassert 1 == 2\n```\n",
        "```python\ndef test_it():\n    assert False\n```\n",
        "```python\nasync def test_it():\n    assert False\n```\n",
        "```python\n>>> 1 + 1\n3\n```\n",
        "```pycon\n>>> 1 + 1\n3\n```\n",
        "```python\nimport asyncio\nawait asyncio.sleep(0)\nassert 0\n```\n",
    ],
)
def test_a_wrong_block_fails(text):
    """Planted: every kind of block, with something false in it."""
    with pytest.raises(AssertionError):
        run(text)


def test_functions_have_a_name():
    """A function that a block defines says that it comes from the program, as it would from a file."""
    assert run("```python\ndef merge(): ...\nwhere = merge.__module__\n```\n")["where"] == "__main__"


def test_files_stay_in_the_scratch_folder():
    """A document that writes a file leaves none behind, and the current folder is as it was."""
    here = Path.cwd()
    names = run("""
        ```python
        from pathlib import Path
        Path("paris.db").write_text("x")
        where = Path("paris.db").absolute()
        ```
        """)
    assert Path.cwd() == here
    assert not names["where"].exists()
    assert not Path("paris.db").exists()


def test_errors_point_at_the_line_of_the_document():
    """A traceback names the page and its line."""
    with pytest.raises(ZeroDivisionError) as raised:
        run("one\n\n```python\na = 1\nb = 1 / 0\n```\n")
    last = raised.traceback[-1]
    assert (last.path.name if hasattr(last.path, "name") else str(last.path)) == "page.md"
    assert last.lineno + 1 == 5
