"""Precision mixed: files with layers of both kinds, and the search for the assignment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from nanonet_edge import masks
from nanonet_edge.bundle import Artifact
from nanonet_edge.checkpoint import save_checkpoint
from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.export import export_bundle, mixed_limits
from nanonet_edge.export.mixed import JOURNAL_NAME, MixedJudge, MixedResult, MixedSearch, Trial
from nanonet_edge.export.mixed_graph import Floats, MixedGraph
from nanonet_edge.export.mixed_limits import FileLimits
from nanonet_edge.export.options import ExportOptions
from nanonet_edge.export.writers import ArtifactWriter, Boundary
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.tflite_file import read_tflite
from nanonet_edge.variants import Format, Head, Precision
from tests.export.networks import SIZE, calibrated, expected, judges, network, rewritten, tensor

ENGINES = {Format.TFLITE: "litert", Format.ONNX: "onnxruntime", Format.OPENVINO: "openvino:f32"}


@pytest.fixture(scope="module")
def graph() -> MixedGraph:
    return MixedGraph(calibrated())


def write(folder: Path, file_format: Format, floats: Floats, boundary: Boundary | None = None) -> Artifact:
    rewriting = rewritten()
    writer = ArtifactWriter(
        folder, "n", rewriting.graph, rewriting.applied, calibrated(), boundary or Boundary(), floats
    )
    record = writer.write(file_format, Precision.MIXED)
    return Artifact(folder / record.files[0].path, record, "0" * 64)


def islands(graph: MixedGraph) -> Floats:
    """Single layers, a long stretch, and both ends."""
    return frozenset((*graph.layers[::7], *graph.layers[20:35], graph.layers[0], graph.layers[-1]))


@pytest.mark.parametrize("file_format", Format)
def test_every_layer_in_float_is_the_float_network(
    tmp_path: Path, graph: MixedGraph, file_format: Format
) -> None:
    artifact = write(tmp_path, file_format, frozenset(graph.layers))
    with open_runtime(artifact, ENGINES[file_format]) as engine:
        assert engine.info.computed_precision == "fp32"
        for frame in judges():
            assert np.abs(engine.probability(frame) - expected(graph.exact, frame)).max() < 1e-5


@pytest.mark.parametrize("file_format", Format)
@pytest.mark.parametrize("which", ["none", "islands"])
def test_engines_load_both_kinds(tmp_path: Path, graph: MixedGraph, file_format: Format, which: str) -> None:
    floats = islands(graph) if which == "islands" else frozenset[str]()
    artifact = write(tmp_path, file_format, floats)
    record = artifact.record
    assert record.name == f"n.mixed.{file_format}"
    assert (record.input.dtype, record.output.dtype) == ("float32", "float32")
    assert {name for name, kind in record.layers.items() if kind == "fp32"} == floats
    assert record.layers.keys() == set(graph.layers)
    predicted = MixedJudge(graph, [tensor(frame) for frame in judges()], 1).mean_dice(floats)
    dice = []
    with open_runtime(artifact, ENGINES[file_format]) as engine:
        assert set(engine.info.computed_precision.split("+")) == ({"fp32", "int8"} if floats else {"int8"})
        for frame in judges():
            truth, found = expected(graph.exact, frame), engine.probability(frame)
            assert np.abs(found - truth).max() < 0.15
            dice.append(masks.overlap(truth[..., 0] > 0.5, found[..., 0] > 0.5).dice)
    assert np.mean(dice) == pytest.approx(predicted, abs=0.01)


def test_tflite_converts_only_where_the_kinds_meet(tmp_path: Path, graph: MixedGraph) -> None:
    floats = frozenset(graph.layers[20:35])
    file = read_tflite(write(tmp_path, Format.TFLITE, floats).path)
    tensors = {one.name: one for one in file.tensors}
    for name in graph.layers:
        assert tensors[name].dtype == ("float32" if name in floats else "int8"), name
    readers = graph.exact.consumers()
    crossing = [
        name
        for name in ("input_image", *graph.layers)
        if any((reader in floats) != (name in floats or name == "input_image") for reader in readers[name])
    ]
    conversions = [operator for operator in file.operators if operator.name in ("QUANTIZE", "DEQUANTIZE")]
    # One for each tensor that is read in the other kind, and one for the output.
    assert len(conversions) == len(crossing) + 1


def test_the_judge_knows_the_two_ends(graph: MixedGraph) -> None:
    judge = MixedJudge(graph, [tensor(judges()[0])], 1)
    assert judge.mean_dice(frozenset(graph.layers)) == 1
    assert judge.mean_dice(frozenset(graph.layers), relieved=True) == 1
    nothing = judge.mean_dice(frozenset())
    assert 0.9 < nothing < 1
    assert judge.mean_dice(frozenset(), relieved=True) == nothing


class FakeJudge:
    """Dice from a rule, and how often it was asked."""

    def __init__(self, rule: Callable[[Floats], float]) -> None:
        self.rule, self.asked = rule, 0

    def mean_dice(self, floats: Floats, *, relieved: bool = False) -> float:
        del relieved
        self.asked += 1
        return self.rule(floats)


def search(
    graph: MixedGraph,
    judge: FakeJudge,
    journal: Path,
    min_dice: float = 0.99,
    key: str = "k",
    limits: FileLimits | None = None,
) -> Trial:
    return MixedSearch(
        graph,
        cast("MixedJudge", judge),
        min_dice=min_dice,
        frames=1,
        journal=journal,
        key=key,
        progress=lambda stage, done, total: None,
        limits=limits,
    ).run()


def blamed(names: set[str]) -> Callable[[Floats], float]:
    """Each of these layers costs a hundredth unless it is in float; all others cost nothing."""
    return lambda floats: 1 - 0.01 * len(names - floats)


def test_only_what_is_to_blame_stays_in_float(tmp_path: Path, graph: MixedGraph) -> None:
    guilty = {"bridge_relu", "decoder_2_gate", "head"}
    found = search(graph, FakeJudge(blamed(guilty)), tmp_path / "mixed.json", 0.999)
    assert set(found.floats) == guilty
    assert found.mean_dice == 1
    saved = MixedResult.model_validate_json((tmp_path / "mixed.json").read_text())
    assert set(saved.ranking[:3]) == guilty
    assert saved.result == found
    assert saved.obtained == "predicted"
    assert found in saved.trials


def test_the_costly_layers_return_to_integers_first(tmp_path: Path, graph: MixedGraph) -> None:
    work = graph.work()
    light, heavy = sorted(("bridge_excite2", "decoder_3_relu"), key=work.__getitem__)
    found = search(graph, FakeJudge(blamed({light, heavy})), tmp_path / "mixed.json", 0.985)
    assert found.floats == (light,)


def test_what_does_not_fit_is_filled_by_the_ranking(tmp_path: Path, graph: MixedGraph) -> None:
    guilty = {"bridge_relu", "decoder_2_gate", "head"}

    class AtMost(FileLimits):
        """So many layers in float, instead of bytes."""

        def admit(self, floats: Floats) -> bool:
            return len(floats) <= (self.max_kib or 0)

    judge = FakeJudge(blamed(guilty))
    # What is needed fits, although the heads that were tried on the way do not.
    found = search(graph, judge, tmp_path / "mixed.json", 0.999, limits=AtMost(graph, 4))
    assert set(found.floats) == guilty
    tight = search(graph, judge, tmp_path / "mixed.json", 0.999, limits=AtMost(graph, 2))
    assert len(tight.floats) <= 2
    assert tight.mean_dice < 0.999


def test_limits_are_of_the_file(graph: MixedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    floats = islands(graph)
    kib = len(graph.tflite(floats)) / 1024
    assert FileLimits(graph).admit(floats)
    assert FileLimits(graph, max_kib=kib).admit(floats)
    assert not FileLimits(graph, max_kib=kib - 0.01).admit(floats)
    assert mixed_limits.inference_ms(graph.tflite(floats)) > 0
    monkeypatch.setattr(mixed_limits, "inference_ms", lambda model: 2.0)
    assert FileLimits(graph, max_ms=2.0).admit(floats)
    assert not FileLimits(graph, max_kib=kib, max_ms=1.9).admit(floats)
    assert str(FileLimits(graph, 100, 1.5)) == "100 KiB and 1.5 ms"


def test_what_reaches_it_in_integers_stays_so(tmp_path: Path, graph: MixedGraph) -> None:
    judge = FakeJudge(lambda floats: 0.995)
    assert search(graph, judge, tmp_path / "mixed.json").floats == ()
    assert judge.asked == 1


def test_a_search_goes_on_where_it_was_killed(tmp_path: Path, graph: MixedGraph) -> None:
    journal, rule = tmp_path / "mixed.json", blamed({"bridge_relu", "head"})

    class Killed(FakeJudge):
        def mean_dice(self, floats: Floats, *, relieved: bool = False) -> float:
            if self.asked == 40:
                raise KeyboardInterrupt
            return super().mean_dice(floats, relieved=relieved)

    with pytest.raises(KeyboardInterrupt):
        search(graph, Killed(rule), journal)
    assert len(json.loads(journal.read_text())["trials"]) == 40
    whole, rest = FakeJudge(rule), FakeJudge(rule)
    expected_trial = search(graph, whole, tmp_path / "other.json")
    assert search(graph, rest, journal) == expected_trial
    assert rest.asked == whole.asked - 40
    # Trials of other weights or frames count for nothing, and neither does a damaged journal.
    other = FakeJudge(rule)
    search(graph, other, journal, key="other")
    assert other.asked == whole.asked
    journal.write_text("{")
    damaged = FakeJudge(rule)
    assert search(graph, damaged, journal) == expected_trial
    assert damaged.asked == whole.asked


def test_the_key_knows_weights_ranges_and_frames(graph: MixedGraph) -> None:
    other = MixedGraph(calibrated("a"))
    keys = {graph.key("f", 4), graph.key("f", 5), graph.key("g", 4), other.key("f", 4)}
    assert len(keys) == 4
    assert graph.key("f", 4) in keys


def test_options_that_contradict_it() -> None:
    mixed = (Precision.MIXED,)
    with pytest.raises(UsageError, match="expected 0 to 1"):
        ExportOptions(precisions=mixed, min_dice=1.5).pairs(print)
    with pytest.raises(UsageError, match="add --precision mixed"):
        ExportOptions(min_dice=0.98).pairs(print)
    with pytest.raises(UsageError, match="add --format tflite"):
        ExportOptions(precisions=mixed, max_kib=100, formats=(Format.ONNX,)).pairs(print)
    with pytest.raises(UnsupportedError, match="drop --head mask"):
        ExportOptions(precisions=mixed, boundary=Boundary(head=Head.MASK)).pairs(print)
    with pytest.raises(UnsupportedError, match="float32"):
        ExportOptions(precisions=mixed, boundary=Boundary(input_dtype="uint8")).pairs(print)
    with pytest.raises(UnsupportedError, match="from the unrewritten graph"):
        ExportOptions(precisions=mixed, straight=True, formats=(Format.ONNX,)).pairs(print)
    pairs = ExportOptions(precisions=mixed).pairs(print)
    assert pairs == [(file_format, Precision.MIXED) for file_format in Format]


def test_a_bundle_with_a_journal_beside_it(tmp_path: Path) -> None:
    save_checkpoint(network(), tmp_path / "mine.weights.h5")
    said: list[str] = []
    options = ExportOptions(
        weights=tmp_path / "mine.weights.h5",
        formats=(Format.ONNX,),
        precisions=(Precision.MIXED,),
        size=SIZE,
        min_dice=0.5,
        trials=1,
        rounding="nearest",
        method="min-max",
    )
    bundle = export_bundle(options, tmp_path / "bundle", report=said.append)
    (artifact,) = bundle.artifacts
    assert artifact.path.name == "nanonet-c.mixed.onnx"
    assert set(artifact.record.layers.values()) == {"int8"}
    journal = tmp_path / "bundle.results" / JOURNAL_NAME
    saved = MixedResult.model_validate_json(journal.read_text())
    assert saved.result is not None
    assert any(line.startswith("mixed: 0 of 68 layers in fp32, mean Dice 0.") for line in said)
    assert sum(line.startswith("calibration: ") for line in said) == 1
