"""A script under click, with a group of commands."""

import json
from pathlib import Path
from typing import Any

import click
from tiny_training import Training, wait_at


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
@click.option("--resume", type=click.Path(), default=None, help="a checkpoint to go on from")
def train(**options: Any) -> None:
    """Train."""
    print("options", json.dumps(options))
    training, first = Training(options["seed"], options["lr"], momentum=0.5 * (options["opt"] == "adam")), 0
    if options["resume"]:
        first = training.load(options["resume"])["epoch"]
        click.echo(f"resumed after epoch {first}")
    for epoch in range(first + 1, options["epochs"] + 1):
        training.epoch()
        click.echo(f"epoch {epoch}: loss {training.valid():.6f}")
        if Path(options["log_dir"]).is_dir():
            training.save(Path(options["log_dir"], f"epoch{epoch}.pt"), epoch=epoch)
        wait_at(epoch)


@cli.command()
def evaluate() -> None:
    """Evaluate."""


if __name__ == "__main__":
    cli()
