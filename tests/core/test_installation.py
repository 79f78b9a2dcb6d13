"""The command of pip that adds an extra, for each origin of the installation."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tunectl.core import installation
from tunectl.core.installation import DISTRIBUTION, install_command

ROOT = Path(__file__).parents[2]
OURS = "tunectl.cli.main:main"
URL = "https://git.example.org/t.git"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with installed packages that Python finds."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(installation, "__file__", str(folder / "tunectl" / "core" / "installation.py"))
    return folder


def install(site: Path, name: str, command: str = OURS, origin: dict[str, Any] | None = None) -> None:
    folder = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (folder / "top_level.txt").write_text("tunectl\n")
    (folder / "entry_points.txt").write_text(f"[console_scripts]\ntunectl = {command}\n")
    if origin is not None:
        (folder / "direct_url.json").write_text(json.dumps(origin))


def local(place: Path, *, editable: bool) -> dict[str, Any]:
    return {"url": place.as_uri(), "dir_info": {"editable": True} if editable else {}}


def test_an_installation_from_an_index_is_named_as_in_its_metadata(site: Path) -> None:
    install(site, "tunectl-of-ours")
    assert install_command("optuna") == "pip install 'tunectl-of-ours[optuna]'"


@pytest.mark.parametrize("editable", [True, False])
@pytest.mark.parametrize("name", [DISTRIBUTION, "tunectl"])
def test_an_installation_from_a_folder_is_named_by_the_folder(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool, name: str
) -> None:
    checkout = tmp_path / "my code"
    checkout.mkdir()
    install(site, name, origin=local(checkout, editable=editable))
    how = "pip install --editable" if editable else "pip install"
    assert install_command("wandb") == f"{how} '{checkout}[wandb]'"
    monkeypatch.chdir(checkout)
    assert install_command("wandb") == f"{how} '.[wandb]'"


def test_an_installation_from_a_repository_is_named_with_its_commit(site: Path) -> None:
    install(site, DISTRIBUTION, origin={"url": URL, "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}})
    assert install_command("mlflow") == f"pip install '{DISTRIBUTION}[mlflow] @ git+{URL}@c0ffee'"


def test_the_program_of_that_name_on_pypi_is_never_proposed(site: Path, tmp_path: Path) -> None:
    install(site, "tunectl", command="tunectl.main:cli")
    assert install_command("optuna") == f"pip install '{DISTRIBUTION}[optuna]'", "where it is installed beside ours"
    for file in (site / "tunectl-0.1.0.dist-info").iterdir():
        file.unlink()
    (site / "tunectl-0.1.0.dist-info").rmdir()
    install(site, "tunectl", origin=local(tmp_path / "gone", editable=True))
    assert install_command("optuna") == f"pip install '{DISTRIBUTION}[optuna]'", "nor the name that ours had before"


@pytest.mark.parametrize("content", ["{", "[]", '{"url": 3}', '{"dir_info": 3}', '{"url": "file://\\u0000"}'])
def test_with_broken_metadata_only_the_origin_is_missing(site: Path, content: str) -> None:
    install(site, DISTRIBUTION)
    (site / f"{DISTRIBUTION.replace('-', '_')}-0.1.0.dist-info" / "direct_url.json").write_text(content)
    assert install_command("optuna") == f"pip install '{DISTRIBUTION}[optuna]'"


def test_sources_that_run_without_being_installed_are_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "__file__", str(ROOT / "tunectl" / "core" / "installation.py"))
    monkeypatch.chdir(site)
    assert install_command("optuna") == f"pip install '{ROOT}[optuna]'"


def test_the_project_has_that_name_and_its_extras_refer_to_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    assert project["optional-dependencies"]["all"][0].startswith(f"{DISTRIBUTION}[")
    assert project["scripts"] == {"tunectl": OURS}


def test_no_text_of_ours_proposes_the_name_of_the_other_program() -> None:
    places = [ROOT / "README.md", *(file for name in ("tunectl", "studies", "scripts") for file in walk(ROOT / name))]
    proposes = re.compile(
        r"""(?:pip3?|uv|pipx|poetry|conda)\s+(?:pip\s+)?(?:install|add)\s+(?:-\S+\s+)*['"]?tunectl\b"""
    )
    assert [file for file in places if proposes.search(file.read_text())] == []


def walk(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".md")]
