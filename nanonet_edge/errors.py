"""Everything nanonet-edge raises on purpose.

    NanonetEdgeError              exit code of the command line
    ├── UsageError                2   wrong use: an option that contradicts another
    │   ├── MissingExtraError     2   an optional dependency is not installed
    │   └── UnsupportedError      2   a format, engine or precision that cannot do it
    ├── InputError                3   bad input; the message names the file
    │   ├── CheckpointError       3   a checkpoint that is no NanoNet, or is damaged
    │   ├── CalibrationError      3   calibration images that would spoil the export
    │   ├── DatasetError          3   a dataset folder that cannot be used
    │   ├── BundleError           3   a bundle that is damaged or not what it says
    │   └── TensorError           3   an array that does not meet the contract
    ├── RuntimeFailure            3   an engine refused or crashed on an artifact
    ├── CompilerError             3   a device's compiler failed on an artifact
    ├── TrainingError             3   a training run that cannot go on
    └── DeviceError               4   a device that cannot be reached

Every message is one line: what was expected, what was found, where.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_VERDICT = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_DEVICE = 4


class NanonetEdgeError(Exception):
    """Base class; `exit_code` is what the command line returns."""

    exit_code: int = EXIT_INPUT


class UsageError(NanonetEdgeError):
    """Options that make no sense, alone or together."""

    exit_code = EXIT_USAGE


class UnsupportedError(UsageError):
    """What was asked is well formed but this format or engine cannot do it."""


class MissingExtraError(UsageError):
    """An optional dependency is absent; the message is the line to type."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed: pip install 'nanonet-edge[{extra}]'")
        self.module = module
        self.extra = extra


class InputError(NanonetEdgeError):
    """A file or folder given by the user is not usable."""

    exit_code = EXIT_INPUT


class CheckpointError(InputError):
    """A checkpoint is damaged, incomplete, or holds another network."""


class CalibrationError(InputError):
    """Calibration images would give wrong ranges."""


class DatasetError(InputError):
    """A dataset folder has no usable images, or its masks do not match."""


class BundleError(InputError):
    """A bundle is damaged: missing file, digest differs, unknown schema."""


class TensorError(InputError):
    """An array does not meet the input contract (shape, dtype, finiteness)."""


class RuntimeFailure(NanonetEdgeError):
    """An inference engine refused an artifact or failed while running it."""


class CompilerError(NanonetEdgeError):
    """A device's own compiler failed, or printed what it should not."""


class TrainingError(NanonetEdgeError):
    """A training run whose loss is no longer a number."""


class DeviceError(NanonetEdgeError):
    """A device cannot be reached."""

    exit_code = EXIT_DEVICE
