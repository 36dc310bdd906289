"""Record a calibration beside shipped weights.

    python -m nanonet_edge.export.record CHECKPOINT.weights.h5 IMAGES [--samples N] [--seed N]

writes `CHECKPOINT.calibration.npz` (integers, scales and ranges; no pixels), which `export`
then uses for these weights where no images are at hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.errors import NanonetEdgeError
from nanonet_edge.export.calibration import calibrate, save_calibration
from nanonet_edge.export.sources import calibration_folder
from nanonet_edge.passes import rewrite


def record(checkpoint_path: Path, images: Path, samples: int, seed: int) -> Path:
    """Calibrate on a folder of images and record it; returns the file that was written.

    Raises:
        CheckpointError, DatasetError, CalibrationError: bad input.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    frames, _ = calibration_folder(images, samples, seed)
    calibration = calibrate(rewrite(checkpoint.graph).graph, frames)
    output = checkpoint_path.with_name(checkpoint_path.name.removesuffix(".weights.h5") + ".calibration.npz")
    save_calibration(calibration, output, checkpoint.sha256)
    return output


def main() -> int:
    """Run from the command line; 0, or 3 after one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m nanonet_edge.export.record", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        print(record(arguments.checkpoint, arguments.images, arguments.samples, arguments.seed))
    except NanonetEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
