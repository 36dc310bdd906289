"""From a checkpoint to a bundle."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np

import nanonet_edge
from nanonet_edge.atomic import replaced_folder, write_text
from nanonet_edge.bundle import Bundle
from nanonet_edge.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    untrained_checkpoint,
)
from nanonet_edge.datasets import list_images
from nanonet_edge.errors import UsageError
from nanonet_edge.export.calibration import (
    Calibration,
    CalibrationFrames,
    calibrate,
    input_contract,
    load_calibration,
)
from nanonet_edge.export.coral import write_coral
from nanonet_edge.export.mixed import JOURNAL_NAME, MixedJudge, MixedSearch
from nanonet_edge.export.mixed_graph import MixedGraph
from nanonet_edge.export.mixed_limits import FileLimits
from nanonet_edge.export.options import DEFAULT_VARIANT, ExportOptions
from nanonet_edge.export.precision import SUPPORTED_STRAIGHT, check_operations
from nanonet_edge.export.sources import calibration_folder, generated_frames
from nanonet_edge.export.straight import StraightConverter
from nanonet_edge.export.straight_writer import StraightWriter
from nanonet_edge.export.writers import ArtifactWriter
from nanonet_edge.extras import OPTIONAL, ensure, version_of
from nanonet_edge.graph import Graph, GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.manifest import (
    MANIFEST_NAME,
    ArtifactRecord,
    CalibrationRecord,
    FileRecord,
    GoldenRecord,
    Manifest,
    WeightsRecord,
    record_file,
)
from nanonet_edge.passes import rewrite
from nanonet_edge.phantom import generate
from nanonet_edge.reference import KerasReference
from nanonet_edge.results import results_folder
from nanonet_edge.variants import (
    SIZE_MULTIPLE,
    Format,
    Network,
    Precision,
    Target,
    Topology,
    Variant,
    get_network,
    topology_of,
)
from nanonet_edge.weights import BundledWeights, bundled_weights

WEIGHTS_NAME = "reference.weights.h5"
GOLDEN_NAME = "golden.npz"
GOLDEN_COUNT = 4
_MANIFEST_LIMIT = 16 << 20
_NEEDED = ("tensorflow", "keras", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "flatbuffers")
_CONVERTERS = ("tf2onnx", "nncf")
_GOLDEN_SEED = 2021
#: Probabilities of the rewritten graph may differ so much from the straight one's.
REWRITE_TOLERANCE = 1e-4

Writer = ArtifactWriter | StraightWriter
Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def export_bundle(
    options: ExportOptions,
    output: Path | None = None,
    *,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Export a checkpoint to `output`, all or nothing.

    Args:
        options: what.
        output: the bundle's folder, named after the network in `artifacts` if None; an older bundle there is
            replaced in one step at the end.
        report: is told in one line what was chosen where nothing was asked for.
        progress: is called with (stage, done, total).

    Raises:
        UsageError: options that cannot be met.
        CheckpointError, DatasetError, CalibrationError: bad input.
        MissingExtraError: a library is not installed.
        CompilerError: the target's compiler failed.
    """
    say = report or _ignore
    pairs = options.pairs(say)
    if output is not None:
        _refuse_foreign(output)
    ensure(*_NEEDED, *(_CONVERTERS if options.straight else ()))
    checkpoint, shipped = _checkpoint(options)
    if output is None:
        output = Path("artifacts") / checkpoint.variant.stem
        _refuse_foreign(output)
    export = _Export(options, checkpoint, shipped, output, say, progress or _ignore_progress)
    return export.run(pairs)


def _checkpoint(options: ExportOptions) -> tuple[Checkpoint, BundledWeights | None]:
    """The network to export, and the shipped files if it is a shipped one."""
    variant = get_network(options.variant or DEFAULT_VARIANT)
    topology = topology_of(variant, options.topology)
    if options.untrained:
        return untrained_checkpoint(variant, topology, options.size), None
    shipped = None
    if options.weights is None:
        shipped = _shipped(variant, topology)
    path = shipped.checkpoint if shipped else Path(options.weights or "")
    checkpoint = load_checkpoint(path, variant=options.variant, topology=options.topology, size=options.size)
    return checkpoint, shipped


def _shipped(variant: Network, topology: Topology | None) -> BundledWeights:
    if isinstance(variant, Variant) and topology is not None:
        try:
            return bundled_weights(variant, topology)
        except UsageError as error:
            raise UsageError(f"{error}: give --weights FILE, or --untrained for speed only") from None
    raise UsageError(
        f"no weights ship for {variant.title}: give --weights FILE, or --untrained for speed only"
    )


def export_straight(
    bundle: Bundle, output: Path, formats: Sequence[Format], precisions: Sequence[Precision]
) -> Bundle:
    """Export the unrewritten graph of a bundle's own weights, to measure the rewrite against.

    Pairs of format and precision that the stock converters do not have are left out.

    Raises:
        MissingExtraError: a converter is not installed.
    """
    options = ExportOptions(
        variant=bundle.manifest.variant, weights=bundle.weights_path, size=bundle.manifest.size, straight=True
    )
    checkpoint = load_checkpoint(bundle.weights_path, size=bundle.manifest.size)
    export = _Export(options, checkpoint, None, output, _ignore, _ignore_progress)
    pairs = [(f, p) for f in formats for p in precisions if p in SUPPORTED_STRAIGHT[f]]
    return export.run(pairs)


class _Export:
    def __init__(
        self,
        options: ExportOptions,
        checkpoint: Checkpoint,
        shipped: BundledWeights | None,
        output: Path,
        say: Report,
        progress: Progress,
    ) -> None:
        self.options, self.checkpoint, self.shipped = options, checkpoint, shipped
        self.output, self.say, self.progress = output, say, progress
        self.name = checkpoint.variant.stem

    def run(self, pairs: Sequence[tuple[Format, Precision]]) -> Bundle:
        # Bad input is found out here, before anything is written.
        prepare = self._prepare_straight if self.options.straight else self._prepare
        open_writer = prepare(pairs)
        with replaced_folder(self.output) as root:
            self._write(root, pairs, open_writer(root))
        return Bundle.open(self.output)

    def _write(self, root: Path, pairs: Sequence[tuple[Format, Precision]], writer: Writer) -> None:
        total = len(pairs) + 2 + (self.options.target is not None)
        self.progress("export", 0, total)
        weights = self._weights(root)
        golden = self._golden(root)
        self.progress("export", 2, total)
        artifacts = []
        for index, pair in enumerate(pairs):
            artifacts.append(writer.write(*pair))
            self.progress("export", index + 3, total)
        if self.options.target is Target.CORAL and isinstance(writer, ArtifactWriter):
            artifacts.append(write_coral(writer, compiles=self.options.compiles, report=self.say))
            self.progress("export", total, total)
        manifest = self._manifest(weights, golden, artifacts)
        write_text(root / MANIFEST_NAME, manifest.to_json())

    def _weights(self, root: Path) -> FileRecord:
        origin = str(self.checkpoint.path.name)
        save_checkpoint(self.checkpoint.graph, root / WEIGHTS_NAME, origin)
        return record_file(root / WEIGHTS_NAME, root)

    def _golden(self, root: Path) -> FileRecord:
        frames = np.stack([f for f, _ in generate(GOLDEN_COUNT, size=self.options.size, seed=_GOLDEN_SEED)])
        with KerasReference(self.checkpoint, self.options.size) as reference:
            probability = reference.probability(frames)
        np.savez_compressed(root / GOLDEN_NAME, frames=frames, probability=probability)
        return record_file(root / GOLDEN_NAME, root)

    def _prepare(self, pairs: Sequence[tuple[Format, Precision]]) -> Callable[[Path], Writer]:
        rewritten = rewrite(self.checkpoint.graph)
        check_operations(rewritten.graph.ops(), pairs, self.checkpoint.variant.title)
        check_rewrite(self.checkpoint.graph, rewritten.graph)
        integer = not all(p.is_float for _, p in pairs)
        calibration = self._calibration(rewritten.graph) if integer else None
        floats: frozenset[str] = frozenset()
        if calibration is not None and any(p is Precision.MIXED for _, p in pairs):
            floats = self._assign(MixedGraph(calibration))
        return partial(
            ArtifactWriter,
            name=self.name,
            graph=rewritten.graph,
            passes=rewritten.applied,
            calibration=calibration,
            boundary=self.options.boundary,
            floats=floats,
        )

    def _assign(self, graph: MixedGraph) -> frozenset[str]:
        """Search which layers precision `mixed` leaves in float."""
        frames, options = self._frames, self.options
        journal = results_folder(self.output) / JOURNAL_NAME
        limits = FileLimits(graph, options.max_kib, options.max_ms)
        tensors = list(islice(frames.tensors(input_contract(graph.exact)), options.trials))
        search = MixedSearch(
            graph,
            MixedJudge(graph, tensors),
            min_dice=options.min_dice,
            frames=len(tensors),
            journal=journal,
            key=graph.key(frames.digest, len(tensors)),
            progress=self.progress,
            limits=limits,
        )
        found = search.run()
        self.say(
            f"mixed: {len(found.floats)} of {len(graph.layers)} layers in fp32, mean Dice "
            f"{found.mean_dice:.4f} on {len(tensors)} calibration frames (predicted); {journal}"
        )
        if found.mean_dice < options.min_dice:
            self.say(f"mixed: {limits} allow no more: {options.min_dice:g} is not reached")
        if not limits.admit(frozenset(found.floats)):
            self.say(f"mixed: not even all layers in integers keep to {limits}")
        return frozenset(found.floats)

    def _prepare_straight(self, pairs: Sequence[tuple[Format, Precision]]) -> Callable[[Path], Writer]:
        frames = self._frames if any(p.is_static for _, p in pairs) else generated_frames(1)
        graph = self.checkpoint.graph
        converter = StraightConverter(graph, lambda: frames.tensors(input_contract(graph)))
        record = CalibrationRecord(
            source=frames.source,
            count=frames.count,
            digest=frames.digest,
            method="min-max",
            seed=frames.seed,
            detail=frames.detail,
        )
        return partial(StraightWriter, name=self.name, graph=graph, converter=converter, calibration=record)

    @cached_property
    def _frames(self) -> CalibrationFrames:
        options = self.options
        if options.calibration is None:
            frames = generated_frames()
            self.say(f"calibration: {frames.detail}; give --calibration DIR for ranges of your own images")
            return frames
        verification = list_images(options.verification) if options.verification else ()
        frames, warnings = calibration_folder(
            options.calibration,
            options.samples,
            options.seed,
            verification=verification,
            progress=self.progress,
        )
        for finding in warnings:
            self.say(f"calibration: {finding}")
        self.say(f"calibration: {frames.detail}, seed {options.seed}")
        return frames

    def _calibration(self, graph: Graph) -> Calibration:
        if (
            self.options.calibration is None
            and self.shipped is not None
            and self.shipped.calibration.is_file()
        ):
            recorded = load_calibration(self.shipped.calibration, graph, self.checkpoint.sha256)
            if recorded is not None and self._is_as_asked(recorded):
                self.say(f"calibration: recorded with the shipped weights ({recorded.record.detail})")
                return recorded
        options = self.options
        return calibrate(
            graph,
            self._frames,
            options.method,
            options.rounding,
            self.progress,
            prepares=options.prepares,
        )

    def _is_as_asked(self, calibration: Calibration) -> bool:
        record, options = calibration.record, self.options
        made = (record.method, record.rounding, bool(calibration.factors))
        return made == (options.method, options.rounding, options.prepares)

    def _manifest(
        self, weights: FileRecord, golden: FileRecord, artifacts: Sequence[ArtifactRecord]
    ) -> Manifest:
        checkpoint = self.checkpoint
        return Manifest(
            name=self.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            variant=checkpoint.variant.name,
            topology=checkpoint.topology,
            classes=checkpoint.classes,
            size=self.options.size,
            head=self.options.boundary.head,
            weights=WeightsRecord(
                file=weights,
                sha256=checkpoint.sha256,
                origin="shipped with the package" if self.shipped else checkpoint.path.name,
                parameters=checkpoint.graph.parameters,
            ),
            golden=GoldenRecord(
                file=golden, count=GOLDEN_COUNT, source=f"generated frames, seed {_GOLDEN_SEED}"
            ),
            artifacts=tuple(artifacts),
            versions=tool_versions(),
        )


def check_rewrite(straight: Graph, rewritten: Graph) -> None:
    """Compare the two graphs on one small frame of noise, with NumPy alone.

    Raises:
        GraphError: they differ by more than `REWRITE_TOLERANCE` in probability.
    """
    size = 2 * SIZE_MULTIPLE
    x = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    difference = evaluate(straight.with_size(size), x) - evaluate(rewritten.with_size(size), x)
    worst = float(np.abs(difference).max())
    if not worst <= REWRITE_TOLERANCE:
        raise GraphError(
            f"the rewritten graph differs by {worst:.2g}: please report this, and use --no-rewrite"
        )


def _refuse_foreign(output: Path) -> None:
    """Replace bundles and empty folders only: never a folder of somebody's files."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: expected a folder for the bundle, found a file")
    if not output.is_dir():
        return
    found = {path.name for path in output.iterdir()}
    manifest = output / MANIFEST_NAME
    ours = {MANIFEST_NAME}
    if manifest.is_file() and manifest.stat().st_size < _MANIFEST_LIMIT:
        # A damaged or older manifest may still be replaced; only the names of its files count.
        ours.update(re.findall(r'"path": "([^"/]+)"', manifest.read_text(errors="replace")))
    if strangers := sorted(found - ours):
        raise UsageError(
            f"{output}: expected an empty folder or an older bundle, found {strangers[0]}: not replaced"
        )


def tool_versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that may have had a hand in an export."""
    found = {module: version_of(module) for module in OPTIONAL}
    tools = {module: version for module, version in found.items() if version is not None}
    return {"nanonet_edge": nanonet_edge.__version__, "python": platform.python_version(), **tools}


def _ignore(message: str) -> None:
    del message


def _ignore_progress(stage: str, done: int, total: int) -> None:
    del stage, done, total
