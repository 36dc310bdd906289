"""The straight graphs are exported once per weights, size, tools and precisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nanonet_edge.bundle import Bundle
from nanonet_edge.export import cached_straight, straight_cache
from nanonet_edge.export.exporter import tool_versions
from nanonet_edge.manifest import MANIFEST_NAME, Manifest
from nanonet_edge.variants import Format, Precision
from tests.tiny_bundle import make_tiny_bundle

FORMATS = (Format.ONNX, Format.OPENVINO)


class Exporter:
    """Stands in for the export: the tiny bundle, said to be straight and made from those weights."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[Format], Sequence[Precision]]] = []

    def __call__(
        self, bundle: Bundle, output: Path, formats: Sequence[Format], precisions: Sequence[Precision]
    ) -> Bundle:
        self.calls.append((formats, precisions))
        made = Bundle.open(make_tiny_bundle(output)).manifest
        weights = bundle.manifest.weights
        edit(
            output,
            weights=weights.model_copy(update={"sha256": weights.file.sha256}),
            versions=tool_versions(),
            artifacts=tuple(
                record.model_copy(update={"graph": "straight"})
                for record in made.artifacts
                if record.format in formats and record.precision in precisions
            ),
        )
        return Bundle.open(output)


def edit(root: Path, **update: object) -> None:
    path = root / MANIFEST_NAME
    manifest = Manifest.model_validate_json(path.read_text())
    path.write_text(manifest.model_copy(update=update).to_json())


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    monkeypatch.setattr(straight_cache, "export_straight", exporter)
    return exporter


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path / "tiny"))


def get(bundle: Bundle, *precisions: Precision) -> tuple[Bundle, str]:
    said: list[str] = []
    folder = bundle.root.with_name("straight")
    found = cached_straight(bundle, folder, FORMATS, precisions or (Precision.FP32,), said.append)
    (line,) = said
    return found, line


def test_second_time_it_is_reused(bundle: Bundle, exporter: Exporter) -> None:
    first, said = get(bundle)
    assert said == "exporting the unrewritten graph"
    again, said = get(bundle)
    assert "was exported before" in said
    assert again.manifest_sha256 == first.manifest_sha256
    assert exporter.calls == [(FORMATS, (Precision.FP32,))]


def test_precision_that_is_not_kept_is_exported(bundle: Bundle, exporter: Exporter) -> None:
    get(bundle)
    get(bundle, Precision.FP32, Precision.STATIC_WI8_AI8)
    assert len(exporter.calls) == 2


def test_precision_that_no_converter_makes_is_not_waited_for(bundle: Bundle, exporter: Exporter) -> None:
    """tf2onnx makes no fp16."""
    folder = bundle.root.with_name("straight")
    for _ in range(2):
        cached_straight(bundle, folder, (Format.ONNX,), (Precision.FP32, Precision.FP16), lambda line: None)
    assert len(exporter.calls) == 1


@pytest.mark.parametrize("change", ["weights", "size", "versions", "graph", "damage", "no JSON"])
def test_what_does_not_fit_is_exported_again(change: str, bundle: Bundle, exporter: Exporter) -> None:
    kept, _ = get(bundle)
    manifest = kept.manifest
    if change == "weights":
        edit(kept.root, weights=manifest.weights.model_copy(update={"sha256": "0" * 64}))
    elif change == "size":
        edit(kept.root, size=128)
    elif change == "versions":
        edit(kept.root, versions={**manifest.versions, "tensorflow": "1.0"})
    elif change == "graph":
        edit(
            kept.root,
            artifacts=tuple(r.model_copy(update={"graph": "rewritten"}) for r in manifest.artifacts),
        )
    elif change == "damage":
        (kept.root / manifest.golden.file.path).write_bytes(b"?")
    else:
        (kept.root / MANIFEST_NAME).write_text("{")
    _, said = get(bundle)
    assert said == "exporting the unrewritten graph"
    assert len(exporter.calls) == 2
