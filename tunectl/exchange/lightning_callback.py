"""A callback that records in tunectl what Lightning measures."""

from __future__ import annotations

import lightning

from tunectl.core.recorded_metrics import record


class TunectlCallback(lightning.Callback):  # type: ignore[misc]
    """Records all metrics that were logged (`self.log`) after every validation, by the names that Lightning has.

    In a program that tunectl did not start it does nothing; of several processes only the first records.
    """

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Called by Lightning."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        record(trainer.global_step, {name: value.item() for name, value in trainer.callback_metrics.items()})
