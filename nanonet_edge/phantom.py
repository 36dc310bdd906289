"""Frames that look like colonoscopy, drawn from a seed.

They stand in where no image is at hand: calibration of last resort, golden vectors, tests.
The statistics of colour and brightness follow Kvasir-SEG (tests compare them); the shapes are
made up, so accuracy on them says nothing about patients.

A frame is a relief: an open or side-on gut wall with folds, and polyps as lit ellipsoids on
it, seen with the light at the camera. Tissue colour, mottling, vessels and highlights are
painted on, then come motion blur, the black border of the endoscope's picture, and noise. That
the corners are darker than the middle follows from the light at the camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DEFAULT_SIZE = 352
MIN_SIZE = 32
#: Tissue colours as seen at full light, BGR: pink, orange, dark red, pale, brown.
_PALETTE = np.array(
    [(118, 142, 222), (78, 126, 226), (72, 88, 188), (146, 170, 222), (74, 118, 194)], np.float32
)
#: Well lit tissue looks pale, dim tissue red: blue and green fall faster than red.
_RESPONSE = np.array((1.6, 1.35, 1.0), np.float32)
_BLOOD = np.array((0.62, 0.55, 0.85), np.float32)
_PALE = np.array((1.12, 1.10, 1.05), np.float32)
_RED = np.array((0.82, 0.80, 1.02), np.float32)


def generate(
    count: int, size: int = DEFAULT_SIZE, seed: int = 0
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Draw frames and the masks of their polyps.

    Frame `i` depends on `seed`, `i` and `size` alone, so a longer run starts with the same
    frames. About one frame in ten has no polyp. Random numbers are the same on every machine;
    resampling may round a pixel differently (by 1) between builds of OpenCV.

    Args:
        count: how many.
        size: height and width in pixels, at least 32.
        seed: any non-negative number.

    Yields:
        frame (size, size, 3) uint8, blue first; mask (size, size) uint8 of 0 and 1.

    Raises:
        ValueError: `count` or `seed` is negative, or `size` too small.
    """
    if count < 0 or seed < 0 or size < MIN_SIZE:
        raise ValueError(f"cannot draw {count} frames of {size} pixels with seed {seed}")
    return (draw_frame(index, size, seed) for index in range(count))


def draw_frame(
    index: int, size: int = DEFAULT_SIZE, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw the frame that `generate` gives at `index`, and its mask."""
    return _draw(np.random.Generator(np.random.PCG64([seed, index])), size)


@dataclass(frozen=True)
class _Polyp:
    """`radius` is 0 at the centre and 1 on the outline; (size, size) float32."""

    radius: Floats
    height: float

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        return self.radius < 1.0

    @property
    def relief(self) -> Floats:
        dome = np.sqrt(np.clip(1.0 - self.radius**2, 0.0, 1.0))
        return np.asarray(self.height * dome, np.float32)


def _draw(rng: np.random.Generator, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    x, y = _coordinates(size)
    border = _border(rng, x, y)
    polyps = _polyps(rng, x, y)
    wall, light = _wall(rng, x, y)
    # Coarse relief is lit; fine relief only glitters.
    relief = wall + 0.045 * _noise(rng, size, 5, 4)
    for polyp in polyps:
        relief = np.maximum(relief, relief * 0.4 + polyp.relief)
    shade, facing = _shade(relief, x, y)
    colour = _tissue(rng, size)
    mask = np.zeros((size, size), bool)
    for polyp in polyps:
        colour = _paint_polyp(rng, colour, polyp)
        mask |= polyp.inside
        # On a polyp the wall's darkness is that of its foot at most.
        light = np.where(polyp.inside, np.maximum(light, 0.72), light)
    brightness = rng.uniform(0.8, 1.28)
    frame = colour * (brightness * light * shade)[..., np.newaxis] ** _RESPONSE
    frame = _highlights(rng, frame, facing, light)
    frame = _blur(rng, np.clip(frame, 0.0, 255.0))
    frame = frame * border[..., np.newaxis]
    frame = frame + rng.normal(0.0, 1.2, frame.shape).astype(np.float32) * (border[..., np.newaxis] + 0.3)
    mask &= border > 0.5
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8), mask.astype(np.uint8)


def _coordinates(size: int) -> tuple[Floats, Floats]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * 2.0 / size - 1.0).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _noise(rng: np.random.Generator, size: int, cells: int, octaves: int, persistence: float = 0.5) -> Floats:
    """Smooth noise of mean about 0 and span about +-1; `cells` across the picture in the first octave."""
    import cv2

    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        across = min(cells << octave, size)
        grid = rng.uniform(-1.0, 1.0, (across + 2, across + 2)).astype(np.float32)
        total += persistence**octave * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return total


def _border(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """1 where the endoscope's picture is, 0 in the black around it, with an edge of a pixel or two."""
    corner = rng.uniform(1.36, 1.62)
    outside = np.maximum(np.abs(x), np.abs(y)) - rng.uniform(0.97, 1.05)
    outside = np.maximum(outside, (np.abs(x) + np.abs(y) - corner) / np.sqrt(2.0))
    if rng.random() < 0.3:  # a round picture
        outside = np.maximum(outside, np.hypot(x, y) - rng.uniform(1.0, 1.12))
    if rng.random() < 0.45:  # the black inset with the scope guide
        width, height = rng.uniform(0.5, 0.7), rng.uniform(0.35, 0.68)
        outside = np.maximum(outside, np.minimum(width - (x + 1.0), y - (1.0 - height)))
    pixel = 2.0 / len(x)
    return np.asarray(np.clip(0.5 - outside / (2.0 * pixel), 0.0, 1.0), np.float32)


def _wall(rng: np.random.Generator, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Relief of the gut wall and how much light reaches it: two (size, size) arrays."""
    size = len(x)
    if rng.random() < 0.5:  # along the gut: rings of folds around a dark lumen
        far = rng.uniform(-0.7, 0.7, 2)
        warp = 0.22 * _noise(rng, size, 3, 2)
        distance = np.hypot(x - far[0], (y - far[1]) * rng.uniform(0.8, 1.25)) + warp
        depth = rng.uniform(0.16, 0.5)
        light = 0.16 + 0.92 / (1.0 + np.exp(-(distance - depth) / rng.uniform(0.08, 0.2)))
        phase = rng.uniform(5.0, 9.0) * np.log(np.maximum(distance, 0.05) + 0.35)
        folds = np.abs(np.sin(phase + rng.uniform(0.0, np.pi)))
    else:  # onto the wall: folds across the picture
        angle = rng.uniform(0.0, np.pi)
        along = x * np.cos(angle) + y * np.sin(angle) + 0.3 * _noise(rng, size, 2, 2)
        folds = np.abs(np.sin(rng.uniform(1.0, 3.2) * along + rng.uniform(0.0, np.pi)))
        near = rng.uniform(-0.4, 0.4, 2)
        light = 1.25 - 0.55 * np.hypot(x - near[0], y - near[1])
    relief = rng.uniform(0.06, 0.17) * folds + 0.1 * _noise(rng, size, 2, 2)
    return np.asarray(relief, np.float32), np.asarray(np.clip(light, 0.05, 1.3), np.float32)


def _polyps(rng: np.random.Generator, x: Floats, y: Floats) -> list[_Polyp]:
    how_many = rng.choice(3, p=(0.1, 0.8, 0.1))
    polyps = []
    for _ in range(how_many):
        centre = rng.uniform(-0.55, 0.55, 2)
        length = float(np.clip(rng.lognormal(np.log(0.42), 0.42), 0.1, 0.85))
        width = length * rng.uniform(0.62, 1.0)
        angle = rng.uniform(0.0, np.pi)
        u = ((x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)) / length
        v = ((y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)) / width
        bearing = np.arctan2(v, u)
        outline = np.ones_like(x)
        for wave in (2, 3, 4, 5):
            outline += rng.uniform(0.0, 0.16 / wave) * np.cos(wave * bearing + rng.uniform(0.0, 2.0 * np.pi))
        radius = np.asarray(np.hypot(u, v) / outline, np.float32)
        polyps.append(_Polyp(radius, rng.uniform(0.5, 1.0) * width))
    return polyps


def _shade(relief: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Lambert's law for a light at the camera: shade, and the cosine that highlights follow."""
    import cv2

    size = len(x)
    smooth = cv2.GaussianBlur(relief, (0, 0), size / 110.0)
    slope_y, slope_x = np.gradient(smooth, 2.0 / size)
    # The ray from the camera leans outwards: facing slopes on both sides are lit differently.
    facing = (1.0 + 0.35 * (slope_x * x + slope_y * y)) / np.sqrt(
        (1.0 + slope_x**2 + slope_y**2) * (1.0 + 0.1225 * (x**2 + y**2))
    )
    facing = np.clip(facing, 0.0, 1.0)
    return np.asarray(0.22 + 0.78 * facing, np.float32), np.asarray(facing, np.float32)


def _tissue(rng: np.random.Generator, size: int) -> Floats:
    """Mottled mucosa with vessels: (size, size, 3) float32, BGR, 0 to 255."""
    weights = rng.dirichlet(np.full(len(_PALETTE), 0.7))
    base = weights.astype(np.float32) @ _PALETTE
    mottle = 0.09 * _noise(rng, size, 4, 5, 0.62)
    # Mottling is blood: it takes more green and blue away than red.
    colour = base * (1.0 + mottle[..., np.newaxis] * np.array((1.0, 1.0, 0.55), np.float32))
    ridge = np.abs(_noise(rng, size, 4, 3, 0.55))
    present = np.clip(_noise(rng, size, 2, 2) + rng.uniform(-0.7, 0.5), 0.0, 0.8)
    vessel = np.exp(-((ridge / 0.055) ** 2)) * present
    return np.asarray(colour * (1.0 - vessel[..., np.newaxis] * (1.0 - _BLOOD)), np.float32)


def _paint_polyp(rng: np.random.Generator, colour: Floats, polyp: _Polyp) -> Floats:
    """Give a polyp a colour and a pitted surface of its own, blended in at the outline."""
    size = len(colour)
    tint = _RED if rng.random() < 0.55 else _PALE
    pits = 0.1 * _noise(rng, size, 14, 3, 0.7)
    own = colour * (tint * (1.0 + pits[..., np.newaxis]))
    blend = np.clip((1.03 - polyp.radius) / 0.08, 0.0, 1.0) * rng.uniform(0.6, 1.0)
    # The foot casts a narrow shadow around itself.
    foot = 1.0 - 0.3 * np.exp(-(((polyp.radius - 1.05) / 0.06) ** 2))
    mixed = colour + (own - colour) * blend[..., np.newaxis]
    return np.asarray(mixed * foot[..., np.newaxis], np.float32)


def _highlights(rng: np.random.Generator, frame: Floats, facing: Floats, light: Floats) -> Floats:
    """Wet tissue mirrors the lamp where it faces the camera: small saturated patches."""
    size = len(frame)
    glitter = _noise(rng, size, 18, 2) + 0.7 * _noise(rng, size, 6, 2)
    threshold = rng.uniform(0.95, 1.6)
    patch = np.clip((glitter - threshold) / 0.12, 0.0, 1.0) * (facing > 0.86) * (light > 0.55)
    return np.asarray(frame + (252.0 - frame) * patch[..., np.newaxis], np.float32)


def _blur(rng: np.random.Generator, frame: Floats) -> Floats:
    """Motion along a random direction, up to 2 % of the picture, in half of the frames."""
    import cv2

    length = rng.uniform(0.0, 0.02) * len(frame)
    angle = rng.uniform(0.0, np.pi)
    if rng.random() < 0.5 or length < 1.0:
        return frame
    taps = 2 * int(np.ceil(length / 2.0)) + 1
    offsets = np.arange(taps, dtype=np.float32) - taps // 2
    grid_x, grid_y = np.meshgrid(offsets, offsets)
    across = np.abs(grid_y * np.cos(angle) - grid_x * np.sin(angle))
    along = np.abs(grid_x * np.cos(angle) + grid_y * np.sin(angle))
    kernel = np.clip(1.0 - across, 0.0, 1.0) * np.clip(length / 2.0 + 0.5 - along, 0.0, 1.0)
    return np.asarray(cv2.filter2D(frame, -1, (kernel / kernel.sum()).astype(np.float32)), np.float32)
