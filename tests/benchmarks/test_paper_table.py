"""The paper's figures as they stand in its tables, and the rows that are put beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.benchmarks.paper_table import PaperTable, count, engine_for, paper_table, published
from nanonet_edge.benchmarks.published import read_publication
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.results import BenchSettings, load_result, save_result
from nanonet_edge.variants import NETWORKS, Format, get_network
from tests.benchmarks.bench_fakes import start_stand_in
from tests.tiny_bundle import make_tiny_bundle

QUICK = BenchSettings(min_seconds=0.0, min_count=3)

#: Typed off the text of page 5: (table, network, figure, value).
TYPED = [
    ("II", "resunet", "dsc", 0.9532),
    ("II", "c", "fps", 29.48),
    ("III", "resunet", "fps", 17.72),
    ("III", "resunet++", "dsc", 0.7310),
    ("III", "a", "dsc", 0.8227),
    ("III", "b", "dsc", 0.7860),
    ("III", "c", "dsc", 0.7494),
    ("III", "c", "fps", 32.17),
    ("IV", "b", "recall", 0.8283),
    ("V", "resunet", "precision", 0.6841),
    ("V", "a", "f2", 0.7773),
    ("VI", "unet", "fps", 20.46),
    ("VI", "doubleunet", "fps", 10.00),
    ("VI", "doubleunet", "miou", 0.8430),
    ("VI", "resunet++", "accuracy", 0.9866),
]


@pytest.mark.parametrize(("number", "network", "figure", "value"), TYPED)
def test_figures_are_those_of_the_paper(number: str, network: str, figure: str, value: float) -> None:
    row = read_publication().table(number).rows[network]
    assert getattr(row, figure) == value


def test_every_table_names_networks_that_exist() -> None:
    tables = read_publication().tables
    assert [table.table for table in tables] == ["II", "III", "IV", "V", "VI"]
    assert {name for table in tables for name in table.rows} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_printed_counts_are_ours_but_for_one_slip(name: str) -> None:
    """Tables IV and V swap two digits of NanoNet-C's count."""
    for found in published(name):
        printed = found.figures.parameters if found.figures else None
        slip = name == "c" and found.table in ("IV", "V")
        assert printed in (None, 36_651 if slip else get_network(name).parameters)


def test_what_is_not_printed_has_a_reason() -> None:
    by_table = {found.table: found for found in published("unet")}
    assert by_table["III"].figures is None
    assert by_table["III"].reason == "Table III has no row for U-Net"
    assert by_table["VI"].missing == {"parameters": "Table VI prints a dash"}
    for name in NETWORKS:
        for found in published(name):
            assert (found.figures is None) == (found.reason is not None)
            printed = found.figures.model_dump() if found.figures else {}
            assert set(found.missing) == {name for name, value in printed.items() if value is None}


def test_counts_of_one_network() -> None:
    found = count("c", 64)
    assert found.parameters == 36_561
    assert 0 < found.rewritten_macs < found.macs
    with pytest.raises(UsageError, match="multiple of 32"):
        count("c", 65)


def test_rows_hold_three_kinds_of_figures_and_say_which(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    result = paper_table([bundle], QUICK, runtime="onnxruntime", start=start_stand_in)
    (row,) = result.rows
    assert (row.network, row.title, row.weights, row.trained) == ("c", "NanoNet-C", "made by the tests", True)
    assert row.counted.obtained == "counted"
    assert row.measured.measurement is not None
    assert row.measured.measurement.invoke.obtained == "measured"
    assert {one.obtained for one in row.published} == {"published"}
    path = tmp_path / "paper-table.json"
    save_result(result, path)
    assert load_result(path, PaperTable) == result


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(UsageError, match="expected networks to measure, found none"):
        paper_table([], QUICK)


def test_an_engine_for_another_format_is_refused() -> None:
    assert engine_for(Format.ONNX) == "onnxruntime"
    assert engine_for(Format.OPENVINO, "openvino:f32") == "openvino:f32"
    with pytest.raises(UnsupportedError, match="litert loads tflite, not onnx"):
        engine_for(Format.ONNX, "litert")
    with pytest.raises(UsageError, match="runtime 'abacus' is unknown"):
        engine_for(Format.ONNX, "abacus")
