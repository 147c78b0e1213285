"""
Options from a file: ``--config FILE``, in TOML.

The names are those of the options without their dashes; what stands on the command line wins. Relative paths in a file
are relative to where the command runs, as on the command line.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from mmrepl.errors import UsageError

OPTION = "--config"


def from_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """What cyclopts calls between reading the command line and making values of it."""
    for argument in arguments:
        if argument.name == OPTION and argument.tokens:
            path = Path(argument.tokens[0].value)
            Dict(_read(path), source=str(path), use_commands_as_keys=False)(app, commands, arguments)
            return


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
