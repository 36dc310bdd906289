"""manifest.json: what is written is read, and what is wrong is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.errors import BundleError
from nanonet_edge.manifest import (
    ArtifactRecord,
    CalibrationRecord,
    FileRecord,
    GoldenRecord,
    Manifest,
    TargetRecord,
    WeightsRecord,
    parse_manifest,
    record_file,
    sha256_file,
)
from nanonet_edge.variants import Format, Head, Precision, Target, Topology

PATH = Path("bundle") / "manifest.json"
DIGEST = hashlib.sha256(b"").hexdigest()


def file_record(path: str = "x.bin", size: int = 3) -> FileRecord:
    return FileRecord(path=path, bytes=size, sha256=DIGEST)


def manifest() -> Manifest:
    artifact = ArtifactRecord(
        name="nanonet-c.static_wi8_ai8.openvino",
        format=Format.OPENVINO,
        precision=Precision.STATIC_WI8_AI8,
        graph="rewritten",
        files=(file_record("x.xml", 100), file_record("x.bin", 20)),
        input=InputContract(name="in", shape=(1, 256, 256, 3), dtype="int8", scale=1 / 255, zero_point=-128),
        output=OutputContract(name="out", shape=(1, 256, 256, 1), scale=0.1 + 0.2, threshold=1 / 3),
        passes=("fold-batch-norm",),
        calibration=CalibrationRecord(source="images", count=100, digest=DIGEST, method="percentile", seed=7),
        quantizer="nncf 2.14",
    )
    return Manifest(
        name="nanonet-c",
        created="2024-01-01T00:00:00+00:00",
        variant="c",
        topology=Topology.RELEASED,
        classes=1,
        size=256,
        head=Head.PROBABILITY,
        weights=WeightsRecord(
            file=file_record("w.weights.h5"), sha256=DIGEST, origin="é, \u4e2d", parameters=36_561
        ),
        golden=GoldenRecord(file=file_record("golden/g.npz"), count=4, source="generated"),
        artifacts=(artifact,),
        versions={"keras": "3.6"},
    )


def changed(path: str, value: Any) -> str:
    """The text of a manifest in which the field at `path` ("a.0.b") is `value`."""
    data: Any = json.loads(manifest().to_json())
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return json.dumps(data)


def refusal(text: str) -> str:
    with pytest.raises(BundleError) as caught:
        parse_manifest(text, PATH)
    message = str(caught.value)
    assert message.startswith(f"{PATH}: ")
    assert "\n" not in message
    return message.removeprefix(f"{PATH}: ")


def test_written_and_read_is_the_same() -> None:
    assert parse_manifest(manifest().to_json(), PATH) == manifest()


@given(st.floats(1e-12, 1e6), st.floats(-1e6, 1e6))
def test_floats_survive_exactly(scale: float, threshold: float) -> None:
    output = OutputContract(name="out", shape=(1,), scale=scale, threshold=threshold)
    artifact = manifest().artifacts[0].model_copy(update={"output": output})
    written = manifest().model_copy(update={"artifacts": (artifact,)})
    assert parse_manifest(written.to_json(), PATH).artifacts[0].output == output


def test_the_text_is_plain_json_for_people() -> None:
    text = manifest().to_json()
    assert text.endswith("}\n")
    assert json.loads(text)["schema_version"] == 1
    assert '\n  "variant": "c",\n' in text
    assert '"precision": "static_wi8_ai8"' in text


def test_it_vouches_for_every_file() -> None:
    assert [file.path for file in manifest().files] == ["w.weights.h5", "golden/g.npz", "x.xml", "x.bin"]
    assert manifest().artifacts[0].bytes == 120


@pytest.mark.parametrize("compiled", [None, file_record("x_edgetpu.tflite")])
def test_it_vouches_for_what_a_target_s_compiler_left(compiled: FileRecord | None) -> None:
    target = TargetRecord(name=Target.CORAL, report=file_record("x.json"), compiled=compiled)
    plain = manifest()
    artifact = plain.artifacts[0].model_copy(update={"target": target})
    changed = parse_manifest(plain.model_copy(update={"artifacts": (artifact,)}).to_json(), PATH)
    extra = ["x.json"] + (["x_edgetpu.tflite"] if compiled else [])
    assert [file.path for file in changed.files] == [*(file.path for file in plain.files), *extra]
    assert changed.artifacts[0].bytes == 120


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_schema_version_is_refused(version: Any) -> None:
    assert refusal(changed("schema_version", version)) == f"expected schema_version 1, found {version}"


@pytest.mark.parametrize("text", ["", "{", "\0", "no json", '{"a": 1}}', "[" * 100_000, "1" * 100_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    assert refusal(text).startswith(("expected JSON, found", "expected schema_version 1, found"))


@pytest.mark.parametrize(
    ("text", "found"), [("[]", "list"), ("3", "int"), ("null", "NoneType"), ("{}", "None")]
)
def test_json_that_is_no_manifest_is_refused(text: str, found: str) -> None:
    assert refusal(text) == f"expected schema_version 1, found {found}"


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "a/..",
        "/etc/passwd",
        "//x",
        "C:/x",
        "C:x",
        "a\\b",
        "..\\x",
        "",
        ".",
        "a\nb",
        "a\0b",
    ],
)
@pytest.mark.parametrize("field", ["weights.file.path", "golden.file.path", "artifacts.0.files.1.path"])
def test_a_path_out_of_the_bundle_is_refused(field: str, path: str) -> None:
    message = refusal(changed(field, path))
    assert message.startswith(f"field '{field}'")
    assert "is not that of a file in the bundle" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extra", 1),
        ("weights.extra", 1),
        ("artifacts.0.input.extra", 1),
        ("variant", None),
        ("topology", "imagined"),
        ("classes", 0),
        ("size", -32),
        ("head", "tail"),
        ("weights.parameters", 0),
        ("weights.file.sha256", DIGEST[:-1]),
        ("weights.file.sha256", DIGEST.upper()),
        ("golden.file.bytes", -1),
        ("golden.count", 0),
        ("artifacts.0.precision", "int8"),
        ("artifacts.0.format", "coreml"),
        ("artifacts.0.graph", "bent"),
        ("artifacts.0.files", []),
        ("artifacts.0.input.scale", 0),
        ("artifacts.0.input.scale", float("nan")),
        ("artifacts.0.output.dtype", "float64"),
        ("artifacts.0.calibration.count", 0),
        ("artifacts.0.calibration.method", "guess"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    assert refusal(changed(field, value)).startswith(f"field '{field}': ")


def test_a_missing_field_is_named() -> None:
    data = json.loads(manifest().to_json())
    del data["artifacts"][0]["input"]["shape"]
    assert refusal(json.dumps(data)) == "field 'artifacts.0.input.shape': Field required"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_other_value_is_refused(value: Any) -> None:
    if not isinstance(value, dict):
        value = {"artifacts": value}
    refusal(json.dumps({**value, "schema_version": 1}))


def test_a_file_is_described_by_path_size_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.bin"
    path.parent.mkdir()
    path.write_bytes(b"abc" * 1_000_000)
    digest = hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert sha256_file(path) == digest
    assert record_file(path, tmp_path) == FileRecord(path="folder/x.bin", bytes=3_000_000, sha256=digest)
