"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.shell_completion import complete_trial

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's YAML file.", show_default=False)]
StudyFolderPath = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The study folder (runs/<study>).", show_default=False)
]
TrialNumber = Annotated[
    int,
    typer.Argument(
        metavar="TRIAL", help="The number of the trial.", min=0, show_default=False, autocompletion=complete_trial
    ),
]
Slots = Annotated[
    int | None,
    typer.Option("--slots", metavar="N", min=1, help="The number of trials that run at a time.", show_default=False),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Also run failed trials again, and those stopped for good.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Train at once, also where others use the cores and GPUs.", show_default=False)
]
BackendName = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="Where trials run: local, external, slurm or ray.  [default: resources.backend]",
        show_default=False,
    ),
]
Stage = Annotated[
    int | None,
    typer.Option(
        "--stage", metavar="N", min=0, help="The stage to judge.  [default: the last complete one]", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
CampaignFolder = Annotated[
    Path | None,
    typer.Option(
        "--campaign",
        metavar="DIR",
        help="The folder with campaign.yaml.  [default: that of the study file, else the current one or one above]",
        show_default=False,
    ),
]
