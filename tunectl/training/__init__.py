"""One trial in one process: loop, optimizers, schedules, clipping, checkpoints, evaluation."""
