"""The straight graphs of a bundle, kept: exporting them takes a minute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import BundleError
from nanonet_edge.export.exporter import export_straight, tool_versions
from nanonet_edge.export.precision import SUPPORTED_STRAIGHT
from nanonet_edge.manifest import MANIFEST_NAME
from nanonet_edge.variants import Format, Precision


def cached_straight(
    bundle: Bundle,
    folder: Path,
    formats: Sequence[Format],
    precisions: Sequence[Precision],
    report: Callable[[str], None],
) -> Bundle:
    """The bundle in `folder` if it holds the straight graphs that are wanted, else a fresh export there.

    It does if it was made from the same weights, at the same size, by the same versions of the
    tools, and has every pair of format and precision that the stock converters can make.

    Args:
        bundle: whose weights.
        folder: where they are kept; nothing else lies there.
        formats: wanted.
        precisions: wanted.
        report: is told in one line which of the two it was.

    Raises:
        MissingExtraError: a converter is not installed.
    """
    kept = _open(folder)
    if kept is not None and _fits(kept, bundle, formats, precisions):
        report(f"the unrewritten graph was exported before: {folder}")
        return kept
    report("exporting the unrewritten graph")
    return export_straight(bundle, folder, formats, precisions)


def _open(folder: Path) -> Bundle | None:
    if not (folder / MANIFEST_NAME).is_file():
        return None
    try:
        return Bundle.open(folder)
    except BundleError:
        # Damaged, or of another schema: what is kept can be made again.
        return None


def _fits(kept: Bundle, bundle: Bundle, formats: Sequence[Format], precisions: Sequence[Precision]) -> bool:
    ours, wanted = kept.manifest, bundle.manifest
    pairs = {(one.format, one.precision) for one in ours.artifacts if one.graph == "straight"}
    return (
        ours.weights.sha256 == wanted.weights.file.sha256
        and ours.size == wanted.size
        and ours.versions == tool_versions()
        and all((f, p) in pairs for f in formats for p in precisions if p in SUPPORTED_STRAIGHT[f])
    )
