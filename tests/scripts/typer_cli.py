"""A script under typer, whose help comes in a box."""

import json
from pathlib import Path
from typing import Annotated

import typer
from tiny_training import Training, wait_at


def main(
    data: str,
    lr: Annotated[float, typer.Option(help="the learning rate")] = 0.1,
    amp: bool = False,
    layers: Annotated[int, typer.Option(min=1)] = 2,
    steps: int = 3,
    seed: int = 0,
    save_dir: Path = Path("out"),
) -> None:
    found = {"data": data, "lr": lr, "amp": amp, "layers": layers, "steps": steps, "seed": seed}
    print("options", json.dumps(found | {"save_dir": str(save_dir)}))
    training = Training(seed, lr, momentum=0.1 * layers)
    for step in range(1, steps + 1):
        training.epoch()
        print(f"step {step}: loss {training.valid():.6f}", flush=True)
        wait_at(step)
    if save_dir.is_dir():
        training.save(save_dir / "model.pt")


if __name__ == "__main__":
    typer.run(main)
