"""The real thing: Debian's Python and the engines' aarch64 wheels under QEMU.

Nothing is downloaded here: these tests skip unless QEMU is installed and `nanonet-edge emulate
setup` was run before (NANONET_EDGE_EMULATION names another cache).
"""

from __future__ import annotations

import shutil

import pytest

from nanonet_edge.benchmarks.agreement_result import Thresholds
from nanonet_edge.benchmarks.emulation.cache import Place, default_cache
from nanonet_edge.benchmarks.emulation.count import count_emulated
from nanonet_edge.benchmarks.emulation.emulator import Emulator
from nanonet_edge.benchmarks.emulation.machines import AARCH64
from nanonet_edge.benchmarks.emulation.verify import golden_frames, verify_emulated
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import UsageError
from nanonet_edge.extras import is_installed
from nanonet_edge.tflite_cost import multiply_accumulates
from nanonet_edge.tflite_file import read_tflite
from nanonet_edge.variants import Format, Precision

SIZE = 64
ANY = Thresholds(mean_dice=0.0, p5_dice=0.0)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    for extra in ("tensorflow", "ai_edge_litert", "onnxruntime"):
        if not is_installed(extra):
            pytest.skip(f"{extra} is not installed")
    from nanonet_edge.export import ExportOptions, export_bundle

    options = ExportOptions(
        size=SIZE,
        formats=(Format.TFLITE, Format.ONNX),
        precisions=(Precision.FP32, Precision.STATIC_WI8_AI8),
    )
    return export_bundle(options, tmp_path_factory.mktemp("nanonet") / "c")


def emulator(core: str) -> Emulator:
    try:
        return Emulator(Place(AARCH64, default_cache()), core)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("core", ["cortex-a72", "cortex-a76"])
def test_litert_is_bit_identical_and_floats_are_close(bundle: Bundle, core: str) -> None:
    result = verify_emulated(
        bundle, golden_frames(bundle, 1), emulator(core), device="any", engines=["litert"], thresholds=ANY
    )
    assert [row.failure for row in result.rows] == [None, None]
    assert result.passed, [row.reasons for row in result.rows]
    by_precision = {row.precision: row for row in result.rows}
    integer = by_precision[Precision.STATIC_WI8_AI8]
    assert integer.raw is not None
    assert integer.raw.is_identical
    assert {row.guest.machine for row in result.rows if row.guest} == {"aarch64"}
    assert all(row.guest is not None and row.guest.delegated for row in result.rows)


def test_other_engines_run(bundle: Bundle) -> None:
    result = verify_emulated(
        bundle,
        golden_frames(bundle, 1),
        emulator("cortex-a53"),
        device="any",
        engines=["onnxruntime", "tflite-runtime"],
        thresholds=ANY,
    )
    assert [row.failure for row in result.rows] == [None] * 4
    assert result.passed, [row.reasons for row in result.rows]


def test_counts_repeat_and_are_those_of_the_network(bundle: Bundle) -> None:
    if shutil.which("qemu-aarch64") is None or shutil.which("cc") is None:
        pytest.skip("needs qemu-aarch64 (qemu-user) and cc")
    older, newer = emulator("cortex-a72"), emulator("cortex-a76")
    first = count_emulated(bundle, older, device="any", engines=["litert"])
    again = count_emulated(bundle, older, device="any", engines=["litert"])
    assert [row.failure for row in first.rows] == [None, None]
    assert [row.classes for row in first.rows] == [row.classes for row in again.rows]
    fp32, int8 = first.rows
    # Four multiply-accumulates an instruction; a kernel rounds widths up to its tile.
    macs = macs_of(bundle, fp32.artifact)
    assert macs / 4 <= fp32.classes["fp32_fma"] <= 1.6 * macs / 4
    assert int8.classes["int8_dot"] == 0
    assert int8.classes["widening_mac"] > macs / 16
    modern = count_emulated(bundle, newer, device="any", artifacts=[int8.artifact], engines=["litert"]).rows[
        0
    ]
    assert modern.total is not None
    assert int8.total is not None
    assert modern.classes["int8_dot"] > macs / 32
    assert modern.total < int8.total


def macs_of(bundle: Bundle, artifact: str) -> int:
    """Multiply-accumulates of a TFLite file, from its operators' shapes."""
    file = read_tflite(bundle.artifact(artifact).path)
    return sum(multiply_accumulates(file, operator) for operator in file.operators)
