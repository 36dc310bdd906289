"""The drawn networks cost what their papers and projects say."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.benchmarks.prediction.costs import read_cost
from nanonet_edge.benchmarks.prediction.latencies import PublishedLatencies, read_latencies
from nanonet_edge.benchmarks.prediction.networks import NETWORKS, efficientnet_lite
from nanonet_edge.devices import load_catalogue

#: Million multiply-adds and million parameters as published, and by how much a count may differ:
#: some count batch norms and activations, some leave them out.
PUBLISHED = {
    "MobileNetV1-1.0-224": (569, 4.2, 0.02),  # arXiv 1704.04861, table 8
    "MobileNetV2-1.0-224": (300, 3.4, 0.03),  # arXiv 1801.04381, table 4
    "MobileNetV3-Large-224": (219, 5.4, 0.03),  # arXiv 1905.02244, table 3
    "MobileNetV3-Small-224": (56, 2.5, 0.03),  # arXiv 1905.02244v5, table 3
    "YOLOv8n-640": (4350, 3.2, 0.03),  # ultralytics: 8.7 billion operations
    "YOLOv8s-640": (14300, 11.2, 0.03),  # ultralytics: 28.6
    "YOLOv8m-640": (39450, 25.9, 0.03),  # ultralytics: 78.9
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    macs, parameters, tolerance = PUBLISHED[name]
    drawn = NETWORKS[name]()
    assert drawn.macs / 1e6 == pytest.approx(macs, rel=tolerance)
    assert drawn.parameters / 1e6 == pytest.approx(parameters, rel=tolerance)


def test_fast_scnn_has_its_papers_parameters() -> None:
    assert NETWORKS["Fast-SCNN-768x1344"]().parameters / 1e6 == pytest.approx(1.11, rel=0.03)


@pytest.mark.parametrize(
    ("width", "depth", "size", "macs", "parameters"),
    [(1.0, 1.0, 224, 407, 4.7), (1.1, 1.2, 260, 899, 6.1), (1.4, 1.8, 300, 2640, 13.0)],
)
def test_efficientnet_lite(width: float, depth: float, size: int, macs: float, parameters: float) -> None:
    """tensorflow/tpu, models/official/efficientnet/lite: its counts include batch norms."""
    drawn = efficientnet_lite(width, depth, size)
    assert drawn.macs / 1e6 == pytest.approx(macs, rel=0.06)
    assert drawn.parameters / 1e6 == pytest.approx(parameters, rel=0.03)


def test_a_real_mobilenet_has_the_layers_of_the_drawn_one(test_data: Path) -> None:
    """MobileNetV1 at a quarter of the width and 128: the same operators, but for the head's."""
    real = read_cost(test_data / "fixtures/edgetpu/mobilenet_v1_0.25_128_quant.tflite")
    drawn = NETWORKS["MobileNetV1-1.0-224"]().cost("int8")
    kinds = [[one.kind for one in counted.operators if one.macs] for counted in (real, drawn)]
    assert kinds[0] == kinds[1]


def test_every_figure_has_a_network_a_device_and_a_source() -> None:
    published = read_latencies()
    assert {one.network for one in published.latencies} <= NETWORKS.keys()
    assert {one.source for one in published.latencies} == published.sources.keys()
    assert len({(one.label, one.engine) for one in published.latencies}) == len(published.latencies)


def test_a_figure_without_a_source_is_refused() -> None:
    data = read_latencies().model_dump(mode="json")
    data["latencies"][0]["source"] = "hearsay"
    with pytest.raises(ValueError, match="hearsay"):
        PublishedLatencies.model_validate(data)


def test_the_device_profiles_say_the_same() -> None:
    """A figure that a profile quotes is the one that is fitted on, rounded."""
    ours = {
        (one.network, one.device, one.arithmetic, one.threads): one.ms
        for one in read_latencies().latencies
        if one.unit == "cpu"
    }
    compared = 0
    for name, profile in load_catalogue(environment={}).profiles.items():
        for quoted in profile.published:
            cores = None if profile.cpu is None else profile.cpu.cores.value
            ms = ours.get((quoted.model, name, quoted.precision, quoted.threads or cores))
            if quoted.on == "cpu" and ms is not None:
                assert quoted.ms == pytest.approx(ms, rel=0.02)
                compared += 1
    assert compared >= 12
