"""A script under click, with a group of commands."""

import json
from typing import Any

import click


@click.group()
def cli() -> None:
    """Train or evaluate."""


@cli.command(context_settings={"show_default": True})
@click.option("--lr", default=0.1, help="the learning rate")
@click.option("--amp/--no-amp", default=False)
@click.option("--opt", type=click.Choice(["sgd", "adam"]), default="sgd")
@click.option("--epochs", default=3)
@click.option("--seed", default=0)
@click.option("--log-dir", type=click.Path(), default="logs")
def train(**options: Any) -> None:
    """Train."""
    print("options", json.dumps(options))
    for epoch in range(1, options["epochs"] + 1):
        print(f"epoch {epoch}: loss {options['lr'] / epoch:.4f}", flush=True)


@cli.command()
def evaluate() -> None:
    """Evaluate."""


if __name__ == "__main__":
    cli()
