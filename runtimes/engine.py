"""What an engine has before a model is loaded into it: a name, a version, options, or a lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nanonet_edge.errors import MissingExtraError, UsageError
from nanonet_edge.extras import OPTIONAL, is_installed, version_of
from nanonet_edge.runtimes.base import Runtime


class EngineRuntime(Runtime):
    """A runtime whose engine is an optional dependency.

    Class attributes:
        name: as in a runtime spec.
        module: the optional dependency that brings the engine.
        known_options: option -> what it does.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    known_options: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def obstacle(cls) -> UsageError | None:
        """Why the engine cannot be used here, or None if it can; imports nothing heavy."""
        return None if is_installed(cls.module) else MissingExtraError(cls.module, OPTIONAL[cls.module][0])

    @classmethod
    def version(cls) -> str | None:
        """The engine's version, None where it is not installed."""
        return version_of(cls.module)

    @classmethod
    def unavailable_options(cls) -> Mapping[str, str]:
        """Options that cannot be used on this machine, each with the reason; the engine is installed."""
        return {}

    @classmethod
    def check_options(cls, options: tuple[str, ...]) -> None:
        """Refuse options that the engine does not have.

        Raises:
            UsageError: lists the ones it has.
        """
        for option in options:
            if option not in cls.known_options:
                raise unknown_option(cls.name, option, cls.known_options)


def unknown_option(name: str, option: str, known: Mapping[str, str]) -> UsageError:
    """The error for an option that the runtime `name` does not have."""
    found = f"{name} has no option '{option}'"
    return UsageError(f"{found}: expected one of {', '.join(known)}" if known else f"{found}: it has none")
