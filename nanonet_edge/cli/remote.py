"""`nanonet-edge bench --host`, `--hosts`: the same table, measured on boards reached by SSH."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_DEVICE, EXIT_INPUT, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanonet_edge.results import BenchSettings


def bench_hosts(
    bundle: Path,
    settings: BenchSettings,
    *,
    host: str | None,
    hosts: Path | None,
    runtimes: Sequence[str] | None,
    artifacts: Sequence[str] | None,
    device: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure a bundle on other machines and print what came home; `bench` calls it.

    Args:
        bundle: its folder.
        settings: as for this machine; `device` in it is not looked at.
        host: one board, as ssh is told: "pi5", "user@pi5.local".
        hosts: a file of boards (see `nanonet_edge.benchmarks.remote.read_boards`); one of the two.
        runtimes, artifacts: as of `nanonet_edge.benchmarks.bench.bench`.
        device: what the board is expected to be, by profile or family; None to take what it says.
        output: where the JSON goes; None for a file in the bundle's results named after the host.
        as_json: print JSON instead of tables.

    Raises:
        typer.Exit: 3 if an artifact failed on a board, 4 if one of several boards did.
        DeviceError: the only board cannot be reached or used.
    """
    raise NotImplementedError
