"""A study as TensorBoard reads it: event files, a run a trial, with the HParams view.

Measured values have single precision, as in everything that TensorBoard shows: its data server passes over doubles.
Hyperparameters are doubles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from tunectl.core.records import State
from tunectl.exchange.exported_study import (
    STEPS_TO_TARGET,
    Dimension,
    ExportedStudy,
    ExportedTrial,
    dimensions,
    values_by_key,
)
from tunectl.exchange.optional_libraries import needed
from tunectl.space.domains import Range

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

_EVENTS = "events.out.tfevents.{seconds:010d}.tunectl"
_SEVERAL = ("kind", "stage")
_SHOWN = ("setting", "state", "reason", *_SEVERAL)
"""Facts beside the hyperparameters, by which trials can be filtered there; `_SEVERAL` only where they differ."""


def write_tensorboard(study: ExportedStudy, folder: Path) -> int:
    """Write event files below an empty folder; the number of trials in them. Raises UsageError without tensorboard.

    The HParams view lists what varies, under the keys of the study's findings, and each trial's best and last values;
    infeasible and failed trials are both failed sessions, with a different `state`.
    """
    with needed("tensorboard"):
        from tensorboard.plugins.hparams import summary_v2
    varying, trials = dimensions(study), study.launched
    first = (STEPS_TO_TARGET, f"best/{study.objective.metric}", "final_value")
    metrics = sorted(
        {name for trial in trials for name in trial.reached()},
        key=lambda name: (first.index(name) if name in first else len(first), name),
    )
    shown = _shown(study)
    config = summary_v2.hparams_config_pb(
        hparams=[_declared(item) for item in varying] + [summary_v2.HParam(name) for name in shown],
        metrics=[summary_v2.Metric(name, display_name=name) for name in metrics],
        time_created_secs=min((trial.started or 0.0 for trial in trials), default=0.0),
    )
    _write_events(folder, 0.0, [(0.0, 0, config)])
    for trial in trials:
        _write_events(folder / trial.name, trial.started or 0.0, _events(study, trial, shown))
    return len(trials)


def _declared(item: Dimension) -> Any:
    from tensorboard.plugins.hparams import summary_v2

    if isinstance(item.domain, Range):
        # HParams knows no whole-number ranges: every number is a double to it.
        domain = summary_v2.RealInterval(float(item.domain.low), float(item.domain.high))
        return summary_v2.HParam(item.key, domain)
    values = item.domain.values
    kinds = {
        float if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value) for value in values
    }
    if len(kinds) > 1:
        return summary_v2.HParam(item.key)
    kind = kinds.pop()
    return summary_v2.HParam(item.key, summary_v2.Discrete([kind(value) for value in values], dtype=kind))


def _shown(study: ExportedStudy) -> list[str]:
    trials, taken = study.launched, study.spec.names
    names = [name for name in _SHOWN if name not in taken and any(name in trial.facts() for trial in trials)]
    differ = [name for name in _SEVERAL if len({trial.facts().get(name) for trial in trials}) > 1]
    return [name for name in names if name not in _SEVERAL or name in differ]


def _events(study: ExportedStudy, trial: ExportedTrial, shown: Sequence[str]) -> Iterable[tuple[float, int, Summary]]:
    """Time, step and summary of each event of a trial."""
    from tensorboard.plugins.hparams import summary_v2

    facts = {name: value for name, value in trial.facts().items() if name in shown}
    hparams = {**values_by_key(study.spec, trial.plan), **facts}
    started, ended = trial.started or 0.0, trial.ended or trial.started or 0.0
    yield started, 0, summary_v2.hparams_pb(hparams, trial_id=trial.name, start_time_secs=started)
    for item in trial.curve():
        yield trial.time_of(item), item.step, _scalars(item.metrics)
    step = trial.outcome.best_step or trial.outcome.final_step or 0
    yield ended, step, _scalars(trial.reached())
    yield ended, step, _session_end(trial.outcome.state, ended)


def _scalars(values: Any) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.plugins.scalar import metadata

    summary = Summary()
    for name, value in values.items():
        tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[_single(value)])
        entry = summary.value.add(tag=name, tensor=tensor)
        entry.metadata.CopyFrom(metadata.create_summary_metadata(display_name="", description=""))
    return summary


def _single(value: float) -> float:
    """The value in the range of single precision: what is larger is infinite there."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _session_end(state: State, ended: float) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=_status(state), end_time_secs=ended)
    )
    summary = Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(content),
        tensor=metadata.NULL_TENSOR,
    )
    return summary


def _status(state: State) -> int:
    from tensorboard.plugins.hparams import api_pb2

    match state:
        case "completed":
            name = "STATUS_SUCCESS"
        case "infeasible" | "failed":
            name = "STATUS_FAILURE"
        case "running":
            name = "STATUS_RUNNING"
        case "pending" | "cancelled" | "stopped":
            name = "STATUS_UNKNOWN"
        case _:
            assert_never(state)
    return int(api_pb2.Status.Value(name))


def _write_events(folder: Path, created: float, events: Iterable[tuple[float, int, Summary]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(exist_ok=True)
    with open(folder / _EVENTS.format(seconds=int(created)), "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=created, file_version="brain.Event:2").SerializeToString())
        for time, step, summary in events:
            writer.write(Event(wall_time=time, step=step, summary=summary).SerializeToString())
        writer.flush()


def view_command(place: Path) -> Sequence[str]:
    """The command that shows it."""
    return ("tensorboard", "--logdir", str(place))
