"""Counting instructions: the plugin, what it writes, and the gate."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nanonet_edge.benchmarks.emulation.count as module
from nanonet_edge.benchmarks.emulation import guest
from nanonet_edge.benchmarks.emulation.count import (
    INVOKES,
    check_counting,
    compare_counts,
    count_emulated,
    read_counts,
)
from nanonet_edge.benchmarks.emulation.emulator import Emulator
from nanonet_edge.benchmarks.emulation.instructions import classify
from nanonet_edge.benchmarks.emulation.machines import ARMV7
from nanonet_edge.benchmarks.emulation.result import CountResult
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import InputError, RuntimeFailure, UnsupportedError, UsageError
from tests.benchmarks.emulation.fakes import COUNTING, HONEST, plant, program, use
from tests.tiny_bundle import make_tiny_bundle

SOURCE = Path(module.__file__).with_name("plugin.c")

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bundle"), 32))


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """One whose counts are those of `COUNTING`; its compiler writes an empty plugin."""
    use(monkeypatch, tmp_path / "bin")
    program(tmp_path / "bin", "qemu-aarch64-static", HONEST)
    program(tmp_path / "bin", "qemu-aarch64", COUNTING)
    program(tmp_path / "bin", "cc", "open(sys.argv[sys.argv.index('-o') + 1], 'w')")
    return Emulator(plant(tmp_path / "cache"), "cortex-a72")


def count(bundle: Bundle, emulator: Emulator) -> CountResult:
    return count_emulated(bundle, emulator, device="raspberry-pi-4", artifacts=["tiny.fp32.onnx"])


def test_second_section_counts(bundle: Bundle, emulator: Emulator) -> None:
    (row,) = count(bundle, emulator).rows
    assert row.failure is None
    assert (row.total, row.invokes, row.spread) == (1001 + 20, INVOKES, 1)
    assert row.classes["fp32_fma"] == 1001
    assert row.classes["branch"] == 20
    assert row.guest is not None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        (HONEST, "expected counts, found"),
        (COUNTING.replace("range(3)", "range(2)"), "expected 3 counts, found 2"),
        (COUNTING.replace("end", "und"), "expected section 0, found 'section 0"),
    ],
)
def test_failure_is_the_rows(
    bundle: Bundle, emulator: Emulator, tmp_path: Path, body: str, words: str
) -> None:
    program(tmp_path / "bin", "qemu-aarch64", body)
    (row,) = count(bundle, emulator).rows
    assert row.total is None
    assert row.failure is not None
    assert words in row.failure


def test_compiler_that_fails_is_one_line(bundle: Bundle, emulator: Emulator, tmp_path: Path) -> None:
    program(tmp_path / "bin", "cc", "print('no such header\\nat all', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(RuntimeFailure, match=r"plugin\.c: cc failed, saying no such header at all"):
        count(bundle, emulator)


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (("cc",), "counting needs qemu-aarch64, .* qemu-user$"),
        (("qemu-aarch64",), "counting needs cc, .* gcc libc6-dev$"),
    ],
)
def test_missing_programs_are_named(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], words: str
) -> None:
    for name in present:
        program(tmp_path / "few", name, "")
    monkeypatch.setenv("PATH", str(tmp_path / "few"))
    with pytest.raises(UsageError, match=words):
        check_counting(emulator)


def test_only_aarch64_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tmp_path / "bin")
    program(tmp_path / "bin", "qemu-arm-static", "")
    emulator = Emulator(plant(tmp_path / "cache", ARMV7), "cortex-a72")
    assert emulator.core == "max"
    with pytest.raises(UnsupportedError, match="on aarch64, not on armv7"):
        check_counting(emulator)


@given(st.lists(st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 2**63), max_size=5), max_size=4))
def test_sections_are_read_back(sections: list[dict[int, int]]) -> None:
    text = "".join(
        f"section {number}\n" + "".join(f"{word:08x} {ran}\n" for word, ran in words.items()) + "end\n"
        for number, words in enumerate(sections)
    )
    found = read_counts(text)
    assert [sum(section.values()) for section in found] == [sum(words.values()) for words in sections]
    for section, words in zip(found, sections, strict=True):
        for name, total in section.items():
            assert total == sum(ran for word, ran in words.items() if classify(word) == name)


@given(st.text(alphabet="section 0123456789abcdef\nend"))
def test_anything_else_is_refused_or_read(text: str) -> None:
    try:
        count = len(read_counts(text))
    except ValueError:
        return
    assert count == text.count("section ")


@pytest.mark.parametrize(("earlier", "passes"), [(1021, True), (1001, True), (1000, False), (2000, True)])
def test_gate_lets_two_percent_pass(bundle: Bundle, emulator: Emulator, earlier: int, passes: bool) -> None:
    now = count(bundle, emulator)
    before = now.model_copy(
        update={
            "rows": tuple(
                row.model_copy(update={"total": earlier, "classes": {"other": earlier}}) for row in now.rows
            )
        }
    )
    (change,) = compare_counts(before, now, 0.02)
    assert change.change == pytest.approx(1021 / earlier - 1)
    assert change.passed is passes


def test_exactly_the_limit_passes(bundle: Bundle, emulator: Emulator) -> None:
    def of(total: int) -> CountResult:
        row = {"total": total, "classes": {"other": total}}
        return result.model_copy(update={"rows": tuple(one.model_copy(update=row) for one in result.rows)})

    result = count(bundle, emulator)
    (exact,) = compare_counts(of(100), of(102), 0.02)
    assert exact.passed
    (more,) = compare_counts(of(10_000), of(10_201), 0.02)
    assert not more.passed


def test_other_cores_and_other_artifacts_are_not_compared(bundle: Bundle, emulator: Emulator) -> None:
    now = count(bundle, emulator)
    other = now.model_copy(update={"emulated": now.emulated.model_copy(update={"core": "cortex-a76"})})
    with pytest.raises(
        InputError, match="core cortex-a72 cannot be compared with earlier ones on cortex-a76"
    ):
        compare_counts(other, now, 0.02)
    renamed = tuple(row.model_copy(update={"artifact": "another"}) for row in now.rows)
    with pytest.raises(InputError, match="no artifact and engine in common"):
        compare_counts(now.model_copy(update={"rows": renamed}), now, 0.02)


def test_plugin_and_guest_agree_on_the_mark() -> None:
    assert f"#define MARK {guest.MARK:#X}u".replace("0X", "0x") in SOURCE.read_text()
    # Linux refuses larger process numbers than this (PID_MAX_LIMIT of a 64-bit kernel).
    assert guest.MARK > 4 * 1024 * 1024


def test_plugin_compiles_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler, cc")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "plugin.so"), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
