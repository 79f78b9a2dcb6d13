"""README.md: what it names is there, and what must be in it is. Its commands are run by scripts/readme.py."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from tunectl.analysis.findings.study_findings import FINDINGS
from tunectl.cli.main import app
from tunectl.core.curvature_settings import CurvatureMeasure, CurvatureSettings
from tunectl.language.configuration import FIELDS
from tunectl.language.study_spec import ResourcesSection, TrainingSection
from tunectl.space.search_space import SearchSection

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PROSE = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
BUILT = PROSE[PROSE.index("## How it is built") : PROSE.index("## For maintainers")]
FIRST_PAGE = README[: README.index("\n# Reference")]


def anchors() -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_its_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", PROSE)
    assert len(targets) > 20
    here = [target for target in targets if target.startswith("#")]
    files = [target for target in targets if not target.startswith(("#", "http"))]
    assert [target for target in here if target[1:] not in anchors()] == []
    assert [target for target in files if not (ROOT / target).exists()] == []


def test_the_first_page_is_short_and_has_one_small_picture() -> None:
    assert len(FIRST_PAGE.splitlines()) <= 100
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", README)
    assert picture in FIRST_PAGE
    assert (ROOT / picture).stat().st_size < 150_000


def test_its_lines_are_short() -> None:
    long = [line for line in README.splitlines() if len(line) > (180 if line.startswith("|") else 122)]
    assert long == []


def test_each_module_that_it_names_is_there_and_has_that_name() -> None:
    named = sorted({path for path in CODE if re.fullmatch(r"[a-z_]+/[a-z_/]+\.py(: \w+)?", path)})
    assert len(named) > 100
    assert [path for path in named if not is_there(path)] == []


def is_there(path: str) -> bool:
    file, _, name = path.partition(": ")
    found = ROOT / file if file.startswith(("scripts/", "tests/")) else ROOT / "tunectl" / file
    if not found.is_file():
        return False
    return not name or bool(re.search(rf"^(def|class) {name}\b|^{name}\b", found.read_text(), re.MULTILINE))


def test_the_rooms_are_the_folders_of_the_package() -> None:
    rooms = re.findall(r"^\| `(\w+)` \|", BUILT, re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "tunectl").glob("*/__init__.py")}
    assert (sorted(rooms), len(rooms)) == (sorted(folders), len(folders))


def test_the_order_of_the_rooms_is_that_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    (shown,) = re.findall(r"^```text\n(cli .*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    assert [" ".join(layer.split()) for layer in shown.split("→")] == layers


def test_it_names_every_command_and_every_option() -> None:
    commands = typer.main.get_command(app)
    assert isinstance(commands, TyperGroup)
    shared = {"--help"}
    missing = []
    for name, command in commands.commands.items():
        options = {option for item in command.params for option in item.opts if option.startswith("--")}
        missing += [f"{name} {option}" for option in options - shared if not re.search(rf"{option}\b", README)]
        missing += [] if re.search(rf"`{name}\b|tunectl {name}\b", README) else [name]
    assert missing == []


@pytest.mark.parametrize(
    "names",
    [
        tuple(name.split(" of ")[0] for name in FINDINGS),  # two functions may share a finding
        tuple(FIELDS),
        *(
            tuple(field.name for field in fields(section))
            for section in (TrainingSection, SearchSection, ResourcesSection, CurvatureSettings)
        ),
        get_args(CurvatureMeasure),
    ],
    ids=["findings", "training-fields", "training", "search", "resources", "curvature", "measures"],
)
def test_it_explains_every_name(names: tuple[str, ...]) -> None:
    listed = {
        name for line in README.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w-]+)`", line)
    }
    assert [name for name in names if name not in listed] == []


def test_it_names_every_choice_of_a_training_field() -> None:
    choices = {choice for rule in FIELDS.values() for choice in rule.choices}
    assert len(choices) > 15
    assert sorted(choice for choice in choices if not re.search(rf"\b{choice}\b", README)) == []


def test_its_workers_on_kubernetes_are_started_again_until_each_has_ended_well() -> None:
    """As Kubernetes documents its Jobs: without `completions` no worker is made any more once one has ended well."""
    (text,) = (
        block for block in re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if "kind: Job" in block
    )
    spec = yaml.safe_load(text)["spec"]
    assert spec["completions"] == spec["parallelism"]
    assert spec["completionMode"] == "Indexed"
    assert spec["backoffLimit"] >= 1000, "it counts the ends of all workers together"
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "OnFailure"
    assert pod["terminationGracePeriodSeconds"] > ResourcesSection().grace_seconds
    (container,) = pod["containers"]
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    worker = command.commands["worker"]
    assert worker.make_context("worker", [str(part) for part in container["command"][2:]], resilient_parsing=True)


def test_it_says_of_what_make_check_runs_which_part_needs_slurm_and_none_that_needs_ray() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (check,) = re.findall(r"^check: ([^#]*)", makefile, re.MULTILINE)
    assert "slurm-short" in check.split()
    assert "clusters" not in check.split()
    maintainers = README[README.index("## For maintainers") :]
    first = maintainers[: maintainers.index("\n- ")]
    assert "on a Slurm of one node" in first
    assert "Ray" not in first
