"""The throttle word of a Raspberry Pi's firmware: undervoltage, capped clocks, heat."""

from __future__ import annotations

import re
from typing import Final

from nanonet_edge.manifest import Record

#: Bit -> what it says of this moment; 16 bits higher: of any moment since boot. Raspberry Pi
#: documentation, vcgencmd get_throttled.
CONDITIONS: Final = {
    0: "undervoltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_SINCE_BOOT = 16
_MAX_WORD = (1 << 32) - 1
_VCGENCMD = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})")


class Throttling(Record):
    """The firmware's word, and what it says: `now`, and `since_boot` at any time."""

    word: int
    now: tuple[str, ...]
    since_boot: tuple[str, ...]


def decode_throttled(word: int) -> Throttling:
    """Take the word apart.

    Raises:
        ValueError: it is no 32-bit word.
    """
    if not 0 <= word <= _MAX_WORD:
        raise ValueError(f"expected a 32-bit word, found {word}")
    return Throttling(
        word=word,
        now=tuple(name for bit, name in CONDITIONS.items() if word >> bit & 1),
        since_boot=tuple(name for bit, name in CONDITIONS.items() if word >> (bit + _SINCE_BOOT) & 1),
    )


def parse_throttled(text: str) -> Throttling | None:
    """Read what ``vcgencmd get_throttled`` printed (``throttled=0x50005``); None if it is not that."""
    match = _VCGENCMD.fullmatch(text.strip())
    return decode_throttled(int(match[1], 16)) if match else None
