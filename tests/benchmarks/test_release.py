"""From a finished training run to weights that ship."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nanonet_edge.benchmarks.release import command_of, release
from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.cli.main import app
from nanonet_edge.errors import InputError
from nanonet_edge.training import paper
from nanonet_edge.training.run import read_run
from nanonet_edge.variants import Topology, get_variant
from nanonet_edge.weights import BundledWeights, files_of
from nanonet_edge.weights.card import render_card
from nanonet_edge.weights.facts import Facts, read_facts
from tests.tiny_run import SIZE, TinyRun


def copy_of(run: TinyRun, folder: Path, **changes: Any) -> Path:
    """The run again, with some settings changed, or its result dropped."""
    shutil.copytree(run.folder, folder)
    document = json.loads((folder / "run.json").read_text())
    document.update({key: value for key, value in changes.items() if key in document})
    document["settings"].update({key: value for key, value in changes.items() if key not in document})
    (folder / "run.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, tiny_run: TinyRun) -> tuple[BundledWeights, Facts]:
    root = tmp_path_factory.mktemp("released")
    folds = [
        copy_of(tiny_run, root / name, validation={"images": 4, "digest": name, "skipped": []})
        for name in ("one", "two")
    ]
    facts = release(tiny_run.folder, tiny_run.data, root / "weights", ship="last", folds=folds)
    return files_of(get_variant("c"), Topology.RELEASED, root / "weights"), facts


def test_the_files_are_the_runs(released: tuple[BundledWeights, Facts], tiny_run: TinyRun) -> None:
    files, facts = released
    assert files.checkpoint.read_bytes() == (tiny_run.folder / "last.weights.h5").read_bytes()
    assert files.curves.read_bytes() == (tiny_run.folder / "curves.png").read_bytes()
    assert read_facts(files.facts) == facts
    assert files.card.read_text() == render_card(facts)


def test_the_facts_are_true(released: tuple[BundledWeights, Facts], tiny_run: TinyRun) -> None:
    files, facts = released
    checkpoint, run = load_checkpoint(files.checkpoint), read_run(tiny_run.folder)
    assert (facts.variant, facts.topology, facts.size) == ("c", Topology.RELEASED, SIZE)
    assert (facts.sha256, facts.parameters) == (checkpoint.sha256, 36_561)
    assert (facts.bytes, facts.images) == (files.checkpoint.stat().st_size, 3)
    assert facts.settings == run["settings"]
    assert (facts.epochs, facts.last.epoch) == (10, 10)
    assert facts.best.epoch == run["result"]["best"]["epoch"] + 1
    assert facts.accuracy == facts.last.accuracy


def test_facts_and_card_hold_the_figures_of_evaluate(
    released: tuple[BundledWeights, Facts], tiny_run: TinyRun
) -> None:
    files, facts = released
    place = tiny_run.data / "validation"
    command = ["evaluate", files.checkpoint, "--data", place, "--size", SIZE, "--no-speed", "--json"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["mean"] == facts.accuracy.model_dump(mode="json")
    dsc = row["mean"]["dsc"]
    assert f"{dsc['mean']:.4f} [{dsc['low']:.4f}, {dsc['high']:.4f}] |\n" in files.card.read_text()
    # Training itself measured the same thing, in its own way.
    assert dsc["mean"] == pytest.approx(tiny_run.result.last.dsc, abs=2e-3)


def test_validation_images_that_training_has_seen_are_named_and_left_out(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_run.data, data)
    for kind in ("images", "masks"):
        seen = sorted((data / "train" / kind).iterdir())[0]
        shutil.copy(seen, data / "validation" / kind / f"seen{seen.suffix}")
    remark = "A remark of ours."
    facts = release(tiny_run.folder, data, tmp_path / "weights", remarks=[remark])
    (name,) = facts.leaked
    assert name.startswith("seen.")
    clean = release(tiny_run.folder, tiny_run.data, tmp_path / "clean")
    assert clean.leaked == ()
    assert clean.best.without_leaks is None
    found = facts.best.without_leaks
    assert found is not None
    assert found.dsc.mean == pytest.approx(clean.best.accuracy.dsc.mean, abs=1e-12)
    assert facts.best.accuracy.dsc.mean != pytest.approx(found.dsc.mean, abs=1e-6)
    card = render_card(facts)
    assert name in card
    assert remark in card
    assert "data check" not in render_card(clean)


def test_folds_become_the_cross_validation(released: tuple[BundledWeights, Facts], tiny_run: TinyRun) -> None:
    found = released[1].cross_validation
    assert found is not None
    assert [(fold.part, fold.images, fold.last_dsc) for fold in found.folds] == [
        (1, 4, tiny_run.result.last.dsc),
        (2, 4, tiny_run.result.last.dsc),
    ]
    assert "--fold K/2" in found.command


def test_the_commands_are_ones_that_train_takes(released: tuple[BundledWeights, Facts]) -> None:
    facts = released[1]
    assert facts.command == (
        "nanonet-edge train --data kvasir-seg --variant c --preset fast --epochs 10 --random-encoder "
        f"--size {SIZE} --batch 4 --seed 3"
    )
    entry = {"file": "some file.h5", "sha256": "0" * 64}
    settings = {
        **facts.settings,
        "topology": "described",
        "recipe": replace(paper(), distillation=0.5).as_dict(),
        "start": {"encoder": entry, "weights": None, "teacher": entry},
    }
    words = shlex.split(command_of(settings, "2/5"))
    assert words[:2] == ["nanonet-edge", "train"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options == {
        "--data": "kvasir-seg", "--variant": "c", "--topology": "described", "--preset": "paper",
        "--epochs": "200", "--encoder-weights": "some file.h5", "--teacher": "some file.h5",
        "--distillation": "0.5", "--fold": "2/5", "--seed": "3",
    }  # fmt: skip
    # Up to the data, which is not there, the command line is understood.
    for command in (facts.command, shlex.join(words)):
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 3, result.output
        assert "kvasir-seg: expected the folder of a dataset, found nothing" in result.stderr


def test_what_cannot_be_released_is_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    data, target = tiny_run.data, tmp_path / "weights"
    going_on = copy_of(tiny_run, tmp_path / "going on", result=None)
    with pytest.raises(InputError, match=r"going on: expected a finished training run"):
        release(going_on, data, target)
    with pytest.raises(InputError, match=r"run\.json: expected the settings of a training run"):
        release(tmp_path, data, target)
    with pytest.raises(InputError, match=r"going on: expected a finished training run"):
        release(tiny_run.folder, data, target, folds=[tiny_run.folder, going_on])
    with pytest.raises(InputError, match="expected runs that validate on different images"):
        release(tiny_run.folder, data, target, folds=[tiny_run.folder, tiny_run.folder])
    other = copy_of(tiny_run, tmp_path / "other", topology="described")
    with pytest.raises(InputError, match=r"other: expected a run like .* found another network or recipe"):
        release(tiny_run.folder, data, target, folds=[tiny_run.folder, other])
    assert not target.exists()


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nanonet_edge.benchmarks.release", str(tmp_path), str(tmp_path), "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {tmp_path}/run.json: expected the settings of a training run")
    assert len(done.stderr.splitlines()) == 1
