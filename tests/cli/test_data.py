from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.cli.main import app
from nanonet_edge.data.check import DataReport
from nanonet_edge.data.fetch import FetchRecord
from nanonet_edge.data.phantom_files import write_phantoms
from tests.nanonet_edge.data.test_fetch import ARCHIVE, digest
from tests.nanonet_edge.data.unreliable_server import Behaviour, serve


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, seed in (("train", 1), ("val", 2)):
        write_phantoms(tmp_path / "data" / split, 4, size=64, seed=seed)
    return tmp_path / "data"


def leak(folder: Path) -> None:
    for name in ("images", "masks"):
        shutil.copy(folder / "train" / name / "0002.png", folder / "val" / name / "new.png")


def test_check_passes_and_counts(folder: Path) -> None:
    done = run("check", folder)
    assert done.exit_code == 0, done.output
    for word in ("a folder of images and masks for each split", "train", "val", "images", "pairs"):
        assert word in done.stdout
    assert "nothing found that matters" in done.stderr


def test_check_fails_on_a_leak_and_names_it(folder: Path) -> None:
    leak(folder)
    done = run("check", folder)
    assert done.exit_code == 1
    assert "train/images/0002.png, val/images/new.png" in done.stdout
    assert "1 findings that matter" in done.stderr
    assert run("check", folder, "--split", "train").exit_code == 0


def test_check_as_json(folder: Path) -> None:
    leak(folder)
    done = run("check", folder, "--json")
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert printed.pop("passed") is False
    report = DataReport.model_validate(printed)
    assert report.kind == "data-check"
    assert [finding.kind for finding in report.findings if finding.serious] == ["leak"]


def test_check_shows_some_of_many_findings(folder: Path) -> None:
    for index in range(25):
        shutil.copy(
            folder / "train" / "masks" / "0000.png", folder / "train" / "masks" / f"orphan{index}.png"
        )
    done = run("check", folder)
    assert done.exit_code == 1
    assert done.stdout.count("orphan mask") == 21
    assert "and 5 more" in done.stdout
    assert len(json.loads(run("check", folder, "--json").stdout)["findings"]) >= 25


@pytest.mark.parametrize("arguments", [["gone"], [".", "--split", "nosuch"]])
def test_check_of_what_is_no_dataset_is_bad_input(folder: Path, arguments: list[str]) -> None:
    done = run("check", folder / arguments[0], *arguments[1:])
    assert done.exit_code == 3
    assert done.stderr.startswith("nanonet-edge: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_fetch_shows_the_terms_and_fetches_nothing_unless_they_are_accepted(tmp_path: Path) -> None:
    plan = Behaviour(ARCHIVE)
    with serve(plan) as url:
        done = run("fetch", "kvasir-seg", "--url", f"{url}/file", "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert "restricted for research and educational purposes" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "add --accept-licence once you have read and accept these terms"
    )
    assert plan.requests == []
    assert not (tmp_path / "out").exists()


def test_fetch_says_that_a_checksum_is_of_first_use(tmp_path: Path) -> None:
    with serve(Behaviour(ARCHIVE)) as url:
        arguments = ["kvasir-seg", "--accept-licence", "--url", f"{url}/file", "--output", tmp_path / "out"]
        done = run("fetch", *arguments, "--json")
    assert done.exit_code == 0, done.output
    terms, recorded = done.stderr.index("Terms of use"), done.stderr.index("recorded on first use")
    assert terms < recorded
    assert FetchRecord.model_validate_json(done.stdout).files[0].sha256 == digest(ARCHIVE)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuch"], 2, "'nosuch': expected one of kvasir-seg"),
        (["medico-2020"], 2, "fetch them by hand"),
        (["kvasir-seg", "--accept-licence", "--url", "ftp://host/x.zip"], 2, "begins with https://"),
        (["kvasir-seg", "--accept-licence", "--sha256", "12"], 2, "expected a SHA-256"),
    ],
)
def test_fetch_refuses_in_one_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = run("fetch", *arguments, "--output", tmp_path / "out")
    assert done.exit_code == code
    assert message in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_fetch_of_a_wrong_file_is_bad_input(tmp_path: Path) -> None:
    plan = Behaviour(ARCHIVE, status=[404])
    with serve(plan) as url:
        arguments = ["kvasir-seg", "--accept-licence", "--url", f"{url}/file", "--output", tmp_path / "out"]
        done = run("fetch", *arguments)
        assert (done.exit_code, "the server answers 404" in done.stderr) == (3, True)
        done = run("fetch", *arguments, "--sha256", "0" * 64)
    assert done.exit_code == 3
    assert "expected SHA-256 000" in done.stderr
    assert list(tmp_path.iterdir()) == []
