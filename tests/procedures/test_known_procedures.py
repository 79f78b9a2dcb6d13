"""Tests procedures/known_procedures.py and what procedure.json keeps of each record of options."""

from __future__ import annotations

from dataclasses import fields

import pytest
from typer.testing import CliRunner

from tunectl.procedures.batch_size import BatchSizeOptions
from tunectl.procedures.clip_sweep import ClipSweepOptions
from tunectl.procedures.known_procedures import PROCEDURES, procedure_of
from tunectl.procedures.lr_options import LrSweepOptions
from tunectl.procedures.procedure import ProcedureOptions
from tunectl.procedures.range_test import RangeTestOptions
from tunectl.procedures.warmup_search import WarmupSweepOptions


def test_each_record_of_options_belongs_to_one_procedure() -> None:
    assert [procedure_of(procedure.options()) for procedure in PROCEDURES.values()] == list(PROCEDURES.values())
    assert len({procedure.options for procedure in PROCEDURES.values()}) == len(PROCEDURES)


def test_each_procedure_is_a_command_with_an_option_for_each_field_of_its_record() -> None:
    from tunectl.cli.main import app

    for name, procedure in PROCEDURES.items():
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
        wanted = {field.name.replace("_", "-") for field in fields(procedure.options)} - {"fit-metric", "fit-threshold"}
        assert [option for option in wanted if f"--{option}" not in shown] == [], name


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (
            LrSweepOptions(low=0.1, constant=True),
            '{"low": 0.1, "high": null, "points": null, "constant": true, "steps": null, "follow_up": true, '
            '"find_max_train_steps": false, "fit_metric": null, "fit_threshold": null}',
        ),
        (LrSweepOptions(off={"dropout": 0}), '"off": {"dropout": 0}}'),
        (WarmupSweepOptions(), '{"unstable_lr": null, "factor": 10.0}'),
        (ClipSweepOptions(), "{}"),
        (RangeTestOptions(steps=400), '{"low": null, "high": null, "steps": 400}'),
        (BatchSizeOptions(), '{"low": null, "high": null, "steps": null, "memory_limit": null}'),
    ],
)
def test_options_are_kept_as_earlier_versions_kept_them_so_that_their_folders_go_on(
    options: ProcedureOptions, kept: str
) -> None:
    import json

    assert json.dumps(options.to_json()).endswith(kept)
