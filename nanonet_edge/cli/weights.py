"""`nanonet-edge weights`: what ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import UsageError
from nanonet_edge.variants import Topology, get_variant

if TYPE_CHECKING:
    from nanonet_edge.weights import BundledWeights
    from nanonet_edge.weights.facts import Facts

weights = typer.Typer(no_args_is_help=True, help="List, show and export the trained weights that ship.")

VariantName = Annotated[str, typer.Argument(metavar="VARIANT", help="a, b or c.")]
TopologyOption = Annotated[Topology, typer.Option(help="Which shortcut.")]
_KERAS_MODEL = ".keras"


@weights.command("list")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the trained weights, with their accuracy on the validation images."""
    from nanonet_edge.weights import all_bundled_weights

    found = [(files, _facts(files)) for files in all_bundled_weights()]
    if as_json:
        common.print_json({"weights": [facts.model_dump(mode="json") for _, facts in found]})
        return
    from rich.table import Table

    table = Table("variant", "topology", "parameters", "KiB", "DSC [95 %]", "mIoU", "sha256")
    for _, facts in found:
        dsc = facts.accuracy.dsc
        table.add_row(
            facts.variant,
            facts.topology,
            f"{facts.parameters:,}",
            f"{facts.bytes / 1024:.0f}",
            f"{dsc.mean:.4f} [{dsc.low:.4f}, {dsc.high:.4f}]",
            f"{facts.accuracy.miou.mean:.4f}",
            facts.sha256[:12],
        )
    common.print_table(table)
    common.note(
        "measured on the validation images of Kvasir-SEG; `weights show VARIANT` prints the model card"
    )


@weights.command()
def show(
    variant: VariantName,
    topology: TopologyOption = Topology.RELEASED,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Print the model card: data, training, accuracy, limits."""
    files = _files(variant, topology)
    if as_json:
        common.print_json(_facts(files))
        return
    typer.echo(files.card.read_text(encoding="utf-8"), nl=False)


@weights.command()
def export(
    variant: VariantName,
    output: Annotated[
        Path | None,
        typer.Option(help=".weights.h5, or .keras for a whole model. Default: its own name, here."),
    ] = None,
    topology: TopologyOption = Topology.RELEASED,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write shipped weights to a file, to train on or to load elsewhere."""
    files = _files(variant, topology)
    target = output if output is not None else Path(files.checkpoint.name)
    if target.is_dir():
        target = target / files.checkpoint.name
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists: give --overwrite to replace it")
    if target.suffix == _KERAS_MODEL:
        _export_model(files, target)
    elif target.name.endswith(".weights.h5"):
        from nanonet_edge import atomic

        atomic.write_bytes(target, files.checkpoint.read_bytes())
    else:
        raise UsageError(f"{target}: expected a name that ends in .weights.h5 or {_KERAS_MODEL}")
    common.note(f"wrote {target}")


def _export_model(files: BundledWeights, target: Path) -> None:
    """Architecture and weights in Keras's own format."""
    import tempfile

    from nanonet_edge import atomic
    from nanonet_edge.checkpoint import load_checkpoint
    from nanonet_edge.keras_network import build_keras

    model = build_keras(load_checkpoint(files.checkpoint).graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / target.name
        model.save(path)
        atomic.write_bytes(target, path.read_bytes())


def _files(variant: str, topology: Topology) -> BundledWeights:
    from nanonet_edge.weights import bundled_weights

    return bundled_weights(get_variant(variant), topology)


def _facts(files: BundledWeights) -> Facts:
    from nanonet_edge.weights.facts import read_facts

    return read_facts(files.facts)
