"""A study written for TensorBoard, read back by TensorBoard."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from exported_studies import (
    CLASHING,
    FAILED,
    INFEASIBLE,
    NAN,
    PENDING,
    RECORDED,
    as_texts,
    curve_of,
    of_updates,
    updates_of,
)
from other_tools import MARKS, library

from tunectl.commands.export import export_study, read_for_export

pytestmark = MARKS


@pytest.fixture
def runs(study_folder, tmp_path):
    """The event files of an export, by run, as TensorBoard's own loader has them."""
    accumulating = library("tensorboard.backend.event_processing.plugin_event_multiplexer")
    found = export_study(study_folder, "tensorboard", str(tmp_path / "tb"))
    assert (found.trials, found.planned) == (7, 8)
    multiplexer = accumulating.EventMultiplexer(tensor_size_guidance={"scalars": 0, "hparams": 0}).AddRunsFromDirectory(
        str(found.place)
    )
    multiplexer.Reload()
    return multiplexer


def scalars(runs, run, tag):
    tensors = library("tensorboard.util.tensor_util")
    return [(event.step, tensors.make_ndarray(event.tensor_proto).item()) for event in runs.Tensors(run, tag)]


def singles(points):
    return [(step, np.float32(value)) for step, value in points]


@pytest.mark.parametrize("trial", [0, INFEASIBLE, FAILED, NAN])
def test_every_curve_is_read_back_as_it_was_measured_in_single_precision(runs, study_folder, trial):
    for metric in ("valid/error_rate", "train/loss"):
        there = scalars(runs, f"trial-{trial:05d}", metric)
        assert as_texts(there) == as_texts(singles(curve_of(study_folder, trial, metric)))
        assert len(there) >= 3


@pytest.mark.parametrize("trial", [RECORDED, CLASHING])
def test_what_the_updates_were_like_has_curves_beside_the_metrics(runs, study_folder, trial):
    for name, field in of_updates(trial).items():
        there = scalars(runs, f"trial-{trial:05d}", name)
        assert as_texts(there) == as_texts(singles(updates_of(study_folder, trial, field)))
        assert len(there) == 2
    if trial == CLASHING:
        there = scalars(runs, f"trial-{trial:05d}", "learning_rate")
        assert as_texts(there) == as_texts(singles(curve_of(study_folder, trial, "learning_rate")))


def test_there_is_a_run_a_launched_trial_and_one_for_the_whole(runs):
    launched = [trial for trial in range(8) if trial != PENDING]
    assert set(runs.Runs()) == {".", *(f"trial-{trial:05d}" for trial in launched)}


def test_the_hparams_view_has_every_trial_with_its_values_and_how_it_ended(runs, study_folder):
    """By the plugin's own code: what it answers to the page's request for a table."""
    provider = library("tensorboard.backend.event_processing.data_provider")
    context_module = library("tensorboard.plugins.hparams.backend_context")
    listing = library("tensorboard.plugins.hparams.list_session_groups")
    api = library("tensorboard.plugins.hparams.api_pb2")
    base = library("tensorboard.plugins.base_plugin")
    library_context = library("tensorboard.context").RequestContext()
    backend = context_module.Context(base.TBContext(data_provider=provider.MultiplexerDataProvider(runs, "")))
    metrics = [api.MetricName(tag="best/valid/error_rate"), api.MetricName(tag="final_value")]
    request = api.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[api.STATUS_SUCCESS, api.STATUS_FAILURE, api.STATUS_UNKNOWN, api.STATUS_RUNNING],
        col_params=[api.ColParams(metric=name) for name in metrics],
    )
    experiment = backend.experiment_from_metadata(
        library_context, "", True, backend.hparams_metadata(library_context, ""), []
    )
    assert {item.name for item in experiment.hparam_infos} >= {
        "learning_rate[optimizer=adam]",
        "learning_rate[optimizer=nesterov]",
        "momentum",
        "width",
        "activation",
        "state",
    }
    answer = listing.Handler(library_context, backend, "", request).run()
    groups = {group.name: group for group in answer.session_groups}
    exported = {item.name: item for item in read_for_export(study_folder).launched}
    assert groups.keys() == exported.keys()
    for name, item in exported.items():
        there = groups[name]
        values = {key: value.number_value for key, value in there.hparams.items()}
        rate = item.plan.hyperparameters["learning_rate"]
        optimizer = item.plan.hyperparameters["optimizer"]
        assert values[f"learning_rate[optimizer={optimizer}]"] == rate
        assert there.hparams["state"].string_value == item.outcome.state
        best = {value.name.tag: value.value for value in there.metric_values}
        assert best["best/valid/error_rate"] == np.float32(item.outcome.best_value)
        success = there.sessions[0].status == api.STATUS_SUCCESS
        assert success == (item.outcome.state == "completed")


def test_the_data_server_that_tensorboard_runs_shows_every_scalar(study_folder, tmp_path):
    """It passes over what it does not take for a scalar, such as doubles, and shows nothing then."""
    ingester = library("tensorboard.data.server_ingester")
    place = export_study(study_folder, "tensorboard", str(tmp_path / "tb")).place
    server = ingester.SubprocessServerDataIngester(
        server_binary=ingester.get_server_binary(),
        logdir=str(place),
        reload_interval=0,
        channel_creds_type=library("tensorboard.util.grpc_util").ChannelCredsType.LOCAL,
    )
    server.start()
    wanted = library("tensorboard.data.provider").RunTagFilter(["trial-00000"], ["train/loss"])
    context, patience = library("tensorboard.context").RequestContext(), 100
    found: dict[str, Any] = {}
    try:
        while not found and patience:
            # It answers before it has read the files.
            found = server.data_provider.read_scalars(
                context, experiment_id="", plugin_name="scalars", downsample=1000, run_tag_filter=wanted
            )
            patience -= 1
            threading.Event().wait(0.05 if not found else 0)
    finally:
        server._stdin_handle.close()
    points = [(item.step, item.value) for item in found["trial-00000"]["train/loss"]]
    assert as_texts(points) == as_texts(singles(curve_of(study_folder, 0, "train/loss")))
