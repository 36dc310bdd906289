"""`nanonet-edge phantom`: endoscopy-like frames with masks, where no real data is at hand."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

from nanonet_edge.cli import common

DEFAULT_COUNT = 32
#: `nanonet_edge.phantom.DEFAULT_SIZE` and `MIN_SIZE`, without importing NumPy for --help.
DEFAULT_SIZE, MIN_SIZE = 352, 32


class ImageFormat(str, Enum):
    """What the images are saved as; masks are always PNG."""

    PNG = "png"
    JPG = "jpg"


def phantom(
    output: Annotated[Path, typer.Argument(help="Folder to write images/ and masks/ to.")],
    count: Annotated[int, typer.Option(min=1, help="How many frames.")] = DEFAULT_COUNT,
    size: Annotated[int, typer.Option(min=MIN_SIZE, help="Height and width in pixels.")] = DEFAULT_SIZE,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same frames.")] = 0,
    image_format: Annotated[
        ImageFormat, typer.Option("--format", help="Of the images; masks are always png.")
    ] = ImageFormat.PNG,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in OUTPUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
) -> None:
    """Draw endoscopy-like frames and the masks of their polyps, from a seed.

    They resemble colonoscopy in colour, light and texture; their shapes are made up, so
    accuracy on them says nothing about patients. About one frame in ten has no polyp.
    """
    from nanonet_edge.data.phantom_files import write_phantoms

    chosen: Literal["png", "jpg"] = "jpg" if image_format is ImageFormat.JPG else "png"
    with common.progress() as progress:
        empty = write_phantoms(
            output,
            count,
            size=size,
            seed=seed,
            image_format=chosen,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        common.print_json(
            {
                "folder": str(output),
                "count": count,
                "size": size,
                "seed": seed,
                "empty_masks": empty,
                "obtained": "generated",
            }
        )
    else:
        common.note(f"written: {output} ({count} generated frames of {size}x{size}, {empty} without a polyp)")
