"""What `on_evaluation(trial)` gets: the trial at the step that was just evaluated, and a folder for its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from tunectl.core import real_folders
from tunectl.core.files import write_bytes
from tunectl.training.png import png, shades


@dataclass(frozen=True, slots=True)
class EvaluatedTrial:
    """A trial of a workload at an evaluation.

    Attributes:
        id: the trial's number in the study.
        seed: the trial's seed. All random generators are seeded with it, in the same way at each evaluation.
        step: the number of updates so far.
        model: the model in evaluation mode, with the weights that were evaluated.
        data: the data sets that were evaluated, by split.
        device: the model's device.
        metrics: what was measured, by `split/name`.
        folder: where the files of this step belong. The page shows pictures (PNG, JPEG, GIF, WebP, SVG) of this folder,
        and lists other files.
    """

    id: int
    seed: int
    step: int
    model: nn.Module
    data: Mapping[str, Dataset[Any]]
    device: torch.device
    metrics: Mapping[str, float]
    folder: Path

    def save_image(self, name: str, pixels: Any) -> Path:
        """Write a picture as PNG to `name` in the folder, with .png added unless it ends so; gives its path.

        `pixels` is a tensor or an array of shape [H, W], [1, H, W] or [3, H, W]: uint8, bool, or floats, of which 0 is
        black and 1 white, unless there are others: then the smallest is black and the largest white. Raises ValueError
        for another shape or type, and OSError where the name leads out of the folder.
        """
        values = pixels.detach().to("cpu") if isinstance(pixels, torch.Tensor) else torch.as_tensor(np.asarray(pixels))
        if values.ndim == 2:
            values = values[None]
        if values.ndim != 3 or values.shape[0] not in (1, 3) or 0 in values.shape:
            raise ValueError(f"expected an image of shape [H, W], [1, H, W] or [3, H, W], got {list(values.shape)}")
        if not (values.dtype in (torch.uint8, torch.bool) or values.is_floating_point()):
            raise ValueError(f"expected an image of uint8, bool or floats, got {values.dtype}")
        path = self.folder / (name if name.endswith(".png") else f"{name}.png")
        real_folders.made(path.parent, self.folder)
        write_bytes(path, png(shades(values.permute(1, 2, 0)).pixels), durable=False, within=self.folder)
        return path
