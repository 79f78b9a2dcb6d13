"""`tunectl schema`: the JSON Schema of a study file."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON Schema of a study file."""
    from tunectl.cli.console import say
    from tunectl.language.study_schema import schema_text

    say(schema_text().rstrip("\n"))
