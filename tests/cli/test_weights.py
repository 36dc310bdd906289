"""`nanonet-edge weights` as a user types it, on a folder of weights made for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from nanonet_edge import weights as shipped
from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.cli.main import app
from nanonet_edge.interpreter import evaluate
from nanonet_edge.manifest import sha256_file
from nanonet_edge.metrics import Estimate, ModelAccuracy
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.training import Job, paper
from nanonet_edge.variants import Topology, get_variant
from nanonet_edge.weights import BundledWeights, files_of
from nanonet_edge.weights.card import render_card
from nanonet_edge.weights.facts import CrossValidation, Facts, Fold, Validated
from tests.nanonet_edge.checkpoints import same_weights
from tests.nanonet_edge.graphs import image


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def refused(result: Result, code: int, *words: object) -> None:
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    for word in words:
        assert str(word) in line


def accuracy(first: float) -> ModelAccuracy:
    """Figures that are all different."""
    names = list(ModelAccuracy.model_fields)
    values = [round(first + 0.01 * index, 4) for index in range(len(names))]
    return ModelAccuracy(
        **{n: Estimate(mean=v, low=v - 0.05, high=v + 0.05) for n, v in zip(names, values, strict=True)}
    )


def facts_of(files: BundledWeights, shipped_which: str = "best") -> Facts:
    graph = load_checkpoint(files.checkpoint).graph
    settings = {
        "variant": files.variant.name,
        "topology": str(files.topology),
        "recipe": Job(files.variant, paper()).recipe.as_dict(),
        "start": {
            "encoder": {"file": "mobilenet.h5", "sha256": "e" * 64},
            "weights": None,
            "teacher": {"file": "teacher.h5", "sha256": "f" * 64},
        },
        "training": {"images": 800, "digest": "0" * 64, "skipped": []},
        "validation": {"images": 100, "digest": "1" * 64, "skipped": []},
        "seed": 5,
        "backend": "tensorflow",
        "keras": "3.9",
    }
    return Facts(
        variant=files.variant.name,
        topology=files.topology,
        size=256,
        parameters=graph.parameters,
        sha256=sha256_file(files.checkpoint),
        bytes=files.checkpoint.stat().st_size,
        settings=settings,
        command="nanonet-edge train --data kvasir-seg",
        epochs=200,
        shipped=shipped_which,  # type: ignore[arg-type]
        best=Validated(epoch=150, accuracy=accuracy(0.5)),
        last=Validated(epoch=200, accuracy=accuracy(0.6)),
        images=100,
        cross_validation=CrossValidation(
            command="nanonet-edge train --fold K/2",
            folds=tuple(Fold(part=k, images=400, best_dsc=0.8, last_dsc=0.7 + k / 100) for k in (1, 2)),
        ),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NanoNet-B and C, the latter in both topologies, as if they shipped."""
    place = tmp_path / "shipped"
    for variant, topology, which in (
        ("b", Topology.RELEASED, "last"),
        ("c", Topology.DESCRIBED, "best"),
        ("c", Topology.RELEASED, "best"),
    ):
        files = files_of(get_variant(variant), topology, place)
        save_checkpoint(build_network(files.variant, topology, fill=random_fill(1)), files.checkpoint)
        facts = facts_of(files, which)
        files.facts.write_text(facts.model_dump_json())
        files.card.write_text(render_card(facts), encoding="utf-8")
    monkeypatch.setattr(shipped, "_FOLDER", place)
    return place


def test_list_names_them_with_their_accuracy(folder: Path) -> None:
    result = run("list")
    assert result.exit_code == 0, result.stderr
    lines = {
        tuple(line.split("│")[i].strip() for i in (1, 2)): line
        for line in result.stdout.splitlines()
        if "│" in line
    }
    assert set(lines) == {("b", "released"), ("c", "described"), ("c", "released")}
    assert "132,049" in lines["b", "released"]
    assert "0.6000 [0.5500, 0.6500]" in lines["b", "released"]  # the last epoch's ship
    assert "0.5000 [0.4500, 0.5500]" in lines["c", "released"]  # the best epoch's ship
    assert sha256_file(folder / "nanonet-c.described.weights.h5")[:12] in lines["c", "described"]


def test_list_as_json_is_the_facts(folder: Path) -> None:
    result = run("list", "--json")
    stems = ("nanonet-b.released", "nanonet-c.described", "nanonet-c.released")
    assert json.loads(result.stdout)["weights"] == [
        json.loads((folder / f"{stem}.json").read_text()) for stem in stems
    ]


def test_show_prints_the_card_or_the_facts(folder: Path) -> None:
    assert run("show", "c").stdout == (folder / "nanonet-c.released.md").read_text()
    assert (
        run("show", "C", "--topology", "described").stdout == (folder / "nanonet-c.described.md").read_text()
    )
    found = json.loads(run("show", "b", "--json").stdout)
    assert found == json.loads((folder / "nanonet-b.released.json").read_text())


def test_the_card_has_what_a_reader_must_know(folder: Path) -> None:
    card = (folder / "nanonet-b.released.md").read_text()
    for words in (
        "Not a medical device",
        "132,049 parameters",
        sha256_file(folder / "nanonet-b.released.weights.h5"),
        "nanonet-edge train --data kvasir-seg",
        "`mobilenet.h5` (sha256 eeeeeeeeeeee...)",
        "Distilled from `teacher.h5`",
        "800 training images",
        "Seed 5",
        "| DSC | 0.5000 [0.4500, 0.5500] | 0.6000 [0.5500, 0.6500] |",
        "last: epoch 200 (shipped)",
        "2-fold cross-validation",
        "0.7150 after the last epoch (standard deviation over the folds 0.0071",
    ):
        assert words in " ".join(card.split("\n")) or words in card, words
    described = (folder / "nanonet-c.described.md").read_text()
    assert "evaluate --bundled --variant c --data kvasir-seg/validation --topology described\n" in described


def test_export_writes_the_very_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "nanonet-c.released.weights.h5"
    assert run("export", "c").exit_code == 0
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    refused(run("export", "c"), 2, name, "exists", "--overwrite")
    assert run("export", "c", "--overwrite").exit_code == 0
    (tmp_path / "there").mkdir()
    assert run("export", "c", "--output", tmp_path / "there").exit_code == 0
    assert (tmp_path / "there" / name).is_file()


def test_export_writes_a_model_that_keras_opens(folder: Path, tmp_path: Path) -> None:
    from nanonet_edge.extras import require

    path = tmp_path / "net.keras"
    result = run("export", "c", "--output", path)
    assert result.exit_code == 0, result.stderr
    graph = load_checkpoint(folder / "nanonet-c.released.weights.h5").graph
    assert same_weights(load_checkpoint(path).graph, graph)
    x = image(256)
    found = np.asarray(require("keras").models.load_model(path)(x, training=False))
    np.testing.assert_allclose(found, evaluate(graph, x), atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "a"), 2, ("NanoNet-A (released)", "only for nanonet-b.released, nanonet-c.described")),
        (("export", "b", "--topology", "described"), 2, ("NanoNet-B (described)",)),
        (("show", "d"), 2, ("variant 'd' is unknown",)),
        (("export", "c", "--output", "net.tflite"), 2, ("net.tflite", ".weights.h5 or .keras")),
        (("export", "c", "--output", "net.h5"), 2, ("net.h5", ".weights.h5 or .keras")),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run(*arguments), code, *words)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"schema_version": 2}'])
def test_damaged_facts_are_one_line(folder: Path, text: str | None) -> None:
    path = folder / "nanonet-b.released.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    refused(run("list"), 3, path, "expected the facts of shipped weights")
    refused(run("show", "b", "--json"), 3, path)
