"""The artifact for Google's Edge TPU: rewritten so that its compiler maps it, and compiled if it is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from nanonet_edge.edgetpu import (
    HOW_TO_GET_IT,
    Compiled,
    CoralReport,
    compile_model,
    compiled_report,
    coral_report,
    find_compiler,
)
from nanonet_edge.errors import CompilerError
from nanonet_edge.export.writers import ArtifactWriter
from nanonet_edge.manifest import ArtifactRecord, FileRecord, TargetRecord, record_file
from nanonet_edge.variants import Format, Precision, Target

#: What the Edge TPU computes in, and what its compiler reads.
CORAL_PAIR = (Format.TFLITE, Precision.STATIC_WI8_AI8)

Report = Callable[[str], None]


def write_coral(writer: ArtifactWriter, *, compiles: bool, report: Report) -> ArtifactRecord:
    """Write the int8 TFLite artifact for the Edge TPU, a report beside it, and what its compiler makes of it.

    Args:
        writer: of the bundle.
        compiles: run the compiler if it is on PATH.
        report: is told in one line each what maps, and where to get a compiler if there is none.

    Raises:
        CompilerError: the compiler failed; see `nanonet_edge.edgetpu.compile_model`.
        UnsupportedError, MissingExtraError: as `ArtifactWriter.write`.
    """
    record = writer.write(*CORAL_PAIR, Target.CORAL)
    model = writer.root / record.files[0].path
    program = find_compiler() if compiles else None
    compiled: FileRecord | None = None
    if program is not None:
        found, compiled = _compile(program, model, writer.root)
    else:
        found = coral_report(model)
        if compiles:
            report(f"coral: not compiled: {HOW_TO_GET_IT}")
    report(_summary(found))
    path = model.with_suffix(".json")
    data = found.model_copy(update={"file": model.name}).model_dump(mode="json")
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    target = TargetRecord(
        name=Target.CORAL,
        report=record_file(path, writer.root),
        compiled=compiled,
        compiler=found.compiler.version if found.compiler else None,
    )
    return record.model_copy(update={"target": target})


def _compile(program: Path, model: Path, root: Path) -> tuple[CoralReport, FileRecord]:
    """Compile in a folder of its own, since the compiler leaves a log beside its result."""
    with TemporaryDirectory(dir=model.parent) as scratch:
        try:
            compiled: Compiled = compile_model(program, model, Path(scratch))
        except CompilerError as error:
            raise CompilerError(f"{error} (--no-compile exports without it)") from None
        kept = model.parent / compiled.path.name
        shutil.move(compiled.path, kept)
    return compiled_report(model, compiled.log), record_file(kept, root)


def _summary(found: CoralReport) -> str:
    summary, by = found.summary, "predicted from its compiler's documented rules"
    if found.compiler is not None:
        by = f"says its compiler, version {found.compiler.version}"
    words = f"coral: {summary.mapped} of {summary.operators} operators"
    if summary.share_macs_tpu is not None:
        words += f", {100 * summary.share_macs_tpu:.1f} % of the multiply-accumulates"
    words += f" run on the Edge TPU ({by})"
    if summary.ended_by is not None:
        end = summary.ended_by
        words += f"; the CPU takes over at {end.index} {end.name}: {end.detail or end.reason}"
    return words
