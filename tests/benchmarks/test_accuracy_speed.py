from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pytest
from typing_extensions import Self

from nanonet_edge.benchmarks.accuracy import evaluate_models
from nanonet_edge.benchmarks.accuracy_data import open_data
from nanonet_edge.benchmarks.accuracy_models import find_models
from nanonet_edge.benchmarks.accuracy_result import AccuracyResult
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.reference import KerasReference
from nanonet_edge.results import BenchSettings, Measurement
from nanonet_edge.variants import VARIANTS, Topology
from nanonet_edge.weights import bundled_weights
from tests.benchmarks.accuracy_fakes import FakeModel, in_memory, random_masks
from tests.benchmarks.agreement_fakes import SIZE, write_dataset
from tests.benchmarks.bench_fakes import measurement
from tests.tiny_bundle import make_tiny_bundle

SHIPPED = bundled_weights(VARIANTS["c"], Topology.RELEASED).checkpoint
ASKED = BenchSettings(min_seconds=0.0, min_count=5)


class Scripted:
    """A measuring process with an answer for each runtime; looks at the bundle as a real one does."""

    answers: dict[str, list[float] | RuntimeFailure]
    seen: list[LoadRequest]

    def __init__(self, load: LoadRequest) -> None:
        self.seen.append(load)
        self.spec = load.spec
        bundle = Bundle.open(load.bundle)
        golden = bundle.golden()
        assert bundle.manifest.golden.count == len(golden.frames) == 3
        with KerasReference(bundle.weights_path, bundle.manifest.size) as reference:
            assert reference.probability(golden.frames) == pytest.approx(golden.probability, abs=1e-5)

    def load(self) -> None:
        pass

    def measure(self, request: MeasureRequest) -> Measurement:
        assert request == MeasureRequest(min_seconds=0.0, min_count=5)
        found = self.answers[self.spec]
        if isinstance(found, RuntimeFailure):
            raise found
        return measurement(self.spec, found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def timed_checkpoint(tmp_path: Path, answers: dict[str, list[float] | RuntimeFailure]) -> AccuracyResult:
    Scripted.answers, Scripted.seen = answers, []
    data = open_data(write_dataset(tmp_path / "kvasir", count=3))
    models = find_models([SHIPPED], size=64)
    return evaluate_models(models, data, speed=ASKED, start=Scripted)  # type: ignore[arg-type]


def test_checkpoint_is_timed_in_both_ways(tmp_path: Path) -> None:
    """The paper's frame rate is 1 over the mean, ours 1 over the median."""
    result = timed_checkpoint(tmp_path, {"keras": [10.0, 20.0, 90.0], "keras:predict": [30.0, 30.0, 60.0]})
    speed = result.rows[0].speed
    assert speed is not None
    assert speed.paper_fps.value == pytest.approx(1000 / 40)
    assert (speed.frame_p50.value, speed.invoke_p50.value) == (20.0, 20.0)
    assert speed.fps.value == pytest.approx(1000 / 20)
    assert speed.measurement is not None
    assert speed.predict is not None
    assert speed.predict.runtime.name == "keras"
    assert len(speed.measurement.frame.samples_ns) == 3
    assert [(one.artifact, one.spec, one.threads) for one in Scripted.seen] == [
        (None, "keras", 1),
        (None, "keras:predict", 1),
    ]
    assert (speed.frames.width, speed.frames.height) == (640, 480)
    assert not Path(Scripted.seen[0].bundle).exists()
    assert result.failures == ()


def test_figure_that_could_not_be_measured_says_why(tmp_path: Path) -> None:
    died = RuntimeFailure("the reference on keras:predict: the engine's process was killed by SIGKILL")
    result = timed_checkpoint(tmp_path, {"keras": [10.0], "keras:predict": died})
    (row,) = result.rows
    assert row.mean is not None
    assert row.speed is not None
    assert (row.speed.paper_fps.value, row.speed.paper_fps.reason) == (None, str(died))
    assert row.speed.fps.value == 100.0
    assert result.failures == (str(died),)


def test_artifact_is_timed_as_bench_does_and_has_no_predict(tmp_path: Path) -> None:
    """In a real process."""
    bundle = make_tiny_bundle(tmp_path / "tiny", SIZE)
    data = open_data(write_dataset(tmp_path / "kvasir", count=2))
    steps: list[tuple[str, int, int]] = []
    result = evaluate_models(
        find_models([bundle / "tiny.fp32.onnx"]), data, speed=ASKED, progress=lambda *step: steps.append(step)
    )
    speed = result.rows[0].speed
    assert speed is not None
    assert speed.paper_fps.value is None
    assert "only a checkpoint has a model.predict" in str(speed.paper_fps.reason)
    assert speed.measurement is not None
    assert len(speed.measurement.invoke.samples_ns) >= 5
    assert speed.fps.value == pytest.approx(1000 / float(speed.frame_p50.value or 0))
    assert speed.predict is None
    assert result.failures == ()
    assert steps[-1] == ("speed", 1, 1)
    assert ("evaluate", 2, 2) in steps


def test_what_failed_is_not_timed() -> None:
    def start(load: LoadRequest) -> Scripted:
        raise AssertionError(f"started {load}")

    refused = FakeModel([], refuses=RuntimeFailure("no"))
    data = in_memory(random_masks(1))
    (row,) = evaluate_models([refused], data, speed=ASKED, start=start).rows  # type: ignore[arg-type, list-item]
    assert row.speed is None
