"""What is particular to the reference; what it shares with every runtime is in test_conformance."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import MissingExtraError, RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.runtimes import KerasRuntime, engine, list_runtimes, open_reference, open_runtime
from nanonet_edge.runtimes.keras_reference import running_threads
from tests.tiny_bundle import tiny_frames

FRAMES = tiny_frames(3, 100, seed=1)
MARGIN = 1e-4


@pytest.fixture(params=["keras", "keras:predict"])
def reference(request: pytest.FixtureRequest, nanonet: Bundle) -> Iterator[KerasRuntime]:
    with open_reference(nanonet, request.param, running_threads()) as runtime:
        yield runtime


@pytest.mark.parametrize("artifact", ["nanonet-c.fp32.tflite", "nanonet-c.fp32.onnx"])
def test_its_mask_is_that_of_the_fp32_artifacts(
    reference: KerasRuntime, nanonet: Bundle, artifact: str
) -> None:
    with open_runtime(nanonet.artifact(artifact)) as runtime:
        for frame in FRAMES:
            expected = reference.probability(frame)
            np.testing.assert_allclose(runtime.probability(frame), expected, atol=MARGIN)
            decided = np.abs(expected[..., 0] - 0.5) > MARGIN
            np.testing.assert_array_equal(reference.mask(frame)[decided], runtime.mask(frame)[decided])


def test_info_tells_backend_and_call(reference: KerasRuntime) -> None:
    info = reference.info
    assert info.options["backend"].startswith("tensorflow 2.")
    assert info.options["call"] == ("predict" if "predict" in reference.options else "direct")
    assert info.computed_precision == "fp32"
    assert info.version == KerasRuntime.version()


def test_another_number_of_threads_needs_a_fresh_process(nanonet: Bundle) -> None:
    reference = open_reference(nanonet, "keras", running_threads())
    running = reference.threads
    other = 2 if running == 1 else 1
    with pytest.raises(UnsupportedError, match=f"with {running} threads, .* expected {other}, .* fresh"):
        open_reference(nanonet, "keras", other)
    code = (
        "import sys\n"
        "from nanonet_edge.bundle import Bundle\n"
        "from nanonet_edge.runtimes import open_reference\n"
        "from nanonet_edge.runtimes.keras_reference import running_threads\n"
        "from tests.tiny_bundle import tiny_frames\n"
        "bundle, threads = Bundle.open(sys.argv[1]), int(sys.argv[2])\n"
        "with open_reference(bundle, 'keras', threads) as reference:\n"
        "    mask = reference.mask(tiny_frames(3, 100, seed=1)[0])\n"
        "    print(reference.info.threads, running_threads(), mask.tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(nanonet.root), str(other)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, runs, mask = done.stdout.split()
    assert (int(told), int(runs)) == (other, other)
    assert np.array_equal(np.frombuffer(bytes.fromhex(mask), np.uint8), reference.mask(FRAMES[0]).ravel())
    assert done.stderr == ""


def test_closing_lets_go_of_the_model(nanonet: Bundle) -> None:
    runtime = open_reference(nanonet, "keras", running_threads())
    model = weakref.ref(runtime._model)
    runtime.close()
    gc.collect()
    assert model() is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("litert", "'litert' is not the reference: expected keras"),
        ("keras:", "keras has no option '': expected one of predict"),
        ("keras:fast", "keras has no option 'fast': expected one of predict"),
    ],
)
def test_a_wrong_spec_is_refused(nanonet: Bundle, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_reference(nanonet, spec)


def test_no_artifact_runs_on_it(nanonet: Bundle) -> None:
    with pytest.raises(UsageError, match="runtime 'keras' runs the reference, no artifact: expected one of"):
        open_runtime(nanonet.artifacts[0], "keras")


def test_weights_that_are_damaged_are_named(nanonet: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "nanonet_edge.runtimes.keras_reference.KerasReference", lambda path, size: [].index(path)
    )
    with pytest.raises(RuntimeFailure, match=f"{nanonet.weights_path.name}: the engine failed to load it"):
        open_reference(nanonet, "keras", running_threads())


def test_without_tensorflow_the_install_line_is_given(
    nanonet: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"pip install 'nanonet-edge\[export\]'"):
        open_reference(nanonet)
    (listing,) = (one for one in list_runtimes() if one.name == "keras")
    assert (listing.installed, listing.version, listing.formats) == (False, None, ())
