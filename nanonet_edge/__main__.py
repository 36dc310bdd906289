"""``python -m nanonet_edge`` is the command ``nanonet-edge``."""

from nanonet_edge.cli.main import main

main()
