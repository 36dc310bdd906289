"""Read an image's size from its header, before anything is decoded.

A few bytes can claim a picture of many gigabytes (a decompression bomb). OpenCV's own limit
is 2^30 pixels, so the size is checked here first. Only the four formats that datasets are
made of are recognised; by content, not by the name of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

ImageKind = Literal["JPEG", "PNG", "BMP", "TIFF"]

#: Start-of-frame markers: all of C0..CF but DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN = 0xDA
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_FIELDS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class ImageHeader:
    """Format and size in pixels, as the header claims them."""

    kind: ImageKind
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read_header(data: bytes) -> ImageHeader | None:
    """Parse the header of an encoded image.

    Returns:
        None if `data` is not a JPEG, PNG, BMP or TIFF, or its header is damaged.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return ImageHeader("PNG", *struct.unpack_from(">II", data, 16))
        if data.startswith(b"BM"):
            return _bmp(data)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(data)
    except struct.error:
        return None  # the data end inside the header
    return None


def is_complete(data: bytes, kind: ImageKind) -> bool:
    """Whether the end of the data is there; older OpenCV fills a cut JPEG up with grey.

    Formats whose decoder refuses a cut file by itself are taken as complete.
    """
    if kind != "JPEG":
        return True
    # A thumbnail in the EXIF block ends with the same marker: look behind the last scan's start.
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _jpeg(data: bytes) -> ImageHeader | None:
    position = 2
    while True:
        prefix, marker = struct.unpack_from(">BB", data, position)
        if prefix != 0xFF or marker == _JPEG_SCAN:
            return None
        if marker == 0xFF:  # padding
            position += 1
        elif marker in _JPEG_BARE:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return ImageHeader("JPEG", width, height)
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + length


def _bmp(data: bytes) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return ImageHeader("BMP", abs(width), abs(height))  # a negative height means top to bottom


def _tiff(data: bytes) -> ImageHeader | None:
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in (data[2], data[3])
    (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
    first, stride, value_at = (offset + 8, 20, 12) if big else (offset + 2, 12, 8)
    size: dict[int, int] = {}
    for index in range(min(count, 4096)):
        entry = first + index * stride
        tag, field = struct.unpack_from(order + "HH", data, entry)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT) and field in _TIFF_FIELDS:
            (size[tag],) = struct.unpack_from(order + _TIFF_FIELDS[field], data, entry + value_at)
    if len(size) < 2:
        return None
    return ImageHeader("TIFF", size[_TIFF_WIDTH], size[_TIFF_HEIGHT])
