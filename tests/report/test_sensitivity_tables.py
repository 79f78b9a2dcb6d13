"""Tests the tables of sensitivity in report/answer_tables.py."""

from __future__ import annotations

from planted_effects import planted_effects
from study_of_losses import study_of_losses

from tunectl.analysis.search.sensitivity import sensitivities
from tunectl.report.answer_tables import sensitivity_rows, sensitivity_table


def test_the_table_has_every_hyperparameter_and_pair_and_all_settings_together_first():
    found = sensitivities(planted_effects("valley", 0, 30, 0.2, settings=2))
    table = sensitivity_table(found)
    assert [*dict.fromkeys(row[0] for row in table.rows)] == ["all", "0", "1"]
    together = [dict(zip(table.header, row, strict=True)) for row in table.rows if row[0] == "all"]
    assert len(together) == 5 + 10
    assert [row["hyperparameter"] for row in together if row["answer"] == "matters"] == [*found[-1].responding]
    assert [{row["hyperparameter"], row["with"]} for row in together if row["answer"] == "interact"] == [
        {"learning_rate", "momentum"}
    ]
    ends = [[float(str(row[name])) for name in ("low", "share", "high")] for row in together]
    assert all(three == sorted(three) for three in ends)


def test_the_terminal_shows_what_interacts_and_no_other_pair():
    header, rows = sensitivity_rows(sensitivities(planted_effects("valley", 0, 40, 0.2)))
    named = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["answer"] for row in named] == ["matters", "matters", "interact", *["no effect seen"] * 3]


def test_too_few_trials_have_no_table():
    found = sensitivities(study_of_losses(0, 6, lambda _generator, rate, _decay: rate))
    assert sensitivity_table(found).rows == []
    assert sensitivity_rows(found)[1] == []
