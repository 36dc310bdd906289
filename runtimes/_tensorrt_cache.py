"""Where engines of TensorRT are kept: a folder for each combination of what an engine depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

CACHE_VARIABLE = "NANONET_EDGE_CACHE"


def engine_folder(facts: Mapping[str, object]) -> Path:
    """The folder for engines that depend on these facts; made if need be. Other facts, another folder."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
    folder = cache_folder() / "tensorrt" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_folder() -> Path:
    """NANONET_EDGE_CACHE, else the user's cache folder."""
    if configured := os.environ.get(CACHE_VARIABLE):
        return Path(configured).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nanonet-edge"
