"""Measuring on boards that are reached by SSH, or that have no network at all.

A small agent does on the board what `nanonet_edge.benchmarks.bench` does here, with the same code where
that needs no more than NumPy; what it tells goes home raw, as lines of JSON, and is judged here.

`bench_remote` measures on one board and `bench_many` on several. `pack` makes an archive of a job
(`make_job`) for a board without a network, and `bring_home` reads the result that it leaves.
"""

from nanonet_edge.benchmarks.remote.bench import BoardResult, BoardsResult, bench_many, bench_remote
from nanonet_edge.benchmarks.remote.boards import Board, board_at, read_boards
from nanonet_edge.benchmarks.remote.job import Job, make_job
from nanonet_edge.benchmarks.remote.offline import bring_home, pack

__all__ = [
    "Board",
    "BoardResult",
    "BoardsResult",
    "Job",
    "bench_many",
    "bench_remote",
    "board_at",
    "bring_home",
    "make_job",
    "pack",
    "read_boards",
]
