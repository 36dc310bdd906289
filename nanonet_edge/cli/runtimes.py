"""`nanonet-edge runtimes`: which inference engines there are, and what each can load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.runtimes import RuntimeListing


def runtimes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the inference engines: installed or not, version, formats, options of --runtime."""
    from nanonet_edge.runtimes import list_runtimes

    listings = list_runtimes()
    if as_json:
        common.print_json({"runtimes": [listing.model_dump(mode="json") for listing in listings]})
    else:
        common.print_table(_table(listings))


def _table(listings: tuple[RuntimeListing, ...]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("runtime", "version", "loads", "options and how to install")
    for listing in listings:
        options = [f"{option}: {meaning}" for option, meaning in listing.options.items()]
        for reason in dict.fromkeys(listing.unavailable.values()):
            names = (option for option, why in listing.unavailable.items() if why == reason)
            options.append(f"not here: {'; '.join(names)}: {reason}")
        table.add_row(
            listing.name,
            (listing.version or "unknown") if listing.installed else "not installed",
            ", ".join(listing.formats) or "the bundle's reference",
            escape("\n".join(options if listing.installed else [listing.reason])),
        )
    return table
