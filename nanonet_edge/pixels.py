"""The code that obeys the contract: a frame becomes a tensor, a tensor becomes a mask.

It needs Python >= 3.9 and NumPy, and OpenCV where a frame is resized: it runs on boards too, where
the toolkit is not installed. There the contract is whatever has the fields of `InputContract` and
`OutputContract` of `nanonet_edge.contract`, through which everybody else imports these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import TensorError, UsageError

if TYPE_CHECKING:
    from nanonet_edge.contract import InputContract, OutputContract

Array = npt.NDArray[Any]

#: Values of `nanonet_edge.variants.Head`, which compares equal to them.
_MASK, _PROBABILITY = "mask", "probability"


def check_frame(frame: Array) -> Array:
    """Return `frame` if it is a decoded colour frame, (H, W, 3) uint8.

    Raises:
        TensorError: any other shape or dtype.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise TensorError(
            f"expected a colour frame of shape (height, width, 3) and dtype uint8, "
            f"found shape {frame.shape} and dtype {frame.dtype}"
        )
    return frame


def preprocess(frame: Array, contract: InputContract) -> Array:
    """Turn a decoded BGR frame into the tensor `contract` asks for.

    Args:
        frame: (H, W, 3) uint8, channels in OpenCV's order (blue first), any size.

    Returns:
        An array of ``contract.shape`` and ``contract.dtype``, C-contiguous.

    Raises:
        TensorError: `frame` is not such an array.
    """
    import cv2

    height, width = contract.size
    pixels = check_frame(frame)
    if pixels.shape[:2] != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    if contract.channel_order == "rgb":
        pixels = pixels[:, :, ::-1]
    stored = quantize_pixels(pixels, contract)
    if contract.layout == "nchw":
        stored = stored.transpose(2, 0, 1)
    return np.ascontiguousarray(stored[np.newaxis])


def quantize_pixels(pixels: Array, contract: InputContract) -> Array:
    """Store uint8 pixel values (any shape) in the dtype, scale and zero point of `contract`."""
    dtype = np.dtype(contract.dtype)
    if dtype.kind == "f":
        return (pixels.astype(np.float32) * np.float32(1.0 / (255.0 * contract.scale))).astype(
            dtype, copy=False
        )
    # 256 possible values: a table is exact and faster than rounding every pixel.
    info = np.iinfo(dtype)
    levels = np.rint(np.arange(256) / (255.0 * contract.scale)) + contract.zero_point
    table: Array = np.clip(levels, info.min, info.max).astype(dtype)
    return np.asarray(table[pixels])


def dequantize(output: Array, contract: OutputContract) -> npt.NDArray[np.float32]:
    """Real values of a stored output: float32, same shape."""
    if output.dtype.kind in "fb":
        return output.astype(np.float32)
    shifted = output.astype(np.float32) - np.float32(contract.zero_point)
    return np.asarray(shifted * np.float32(contract.scale), np.float32)


def _image(output: Array, contract: OutputContract) -> Array:
    """Drop the batch and put channels last: (H, W, classes), or (H, W) for a mask."""
    if output.shape != contract.shape:
        raise TensorError(f"output '{contract.name}': expected shape {contract.shape}, found {output.shape}")
    image: Array = output[0]
    if image.ndim == 3 and contract.layout == "nchw":
        image = np.moveaxis(image, 0, -1)
    return image


def to_probability(output: Array, contract: OutputContract) -> npt.NDArray[np.float32]:
    """Probabilities of an artifact's output.

    Returns:
        (H, W, classes) float32 in [0, 1].

    Raises:
        UsageError: the head is a mask, which has no probabilities.
    """
    if contract.kind == _MASK:
        raise UsageError("a mask head has no probabilities: export with --head probability or logit")
    real = dequantize(_image(output, contract), contract)
    if contract.kind == _PROBABILITY:
        return real
    if contract.classes == 1:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * real)), np.float32)
    exponent = np.exp(real - real.max(axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True), np.float32)


def to_mask(output: Array, contract: OutputContract) -> npt.NDArray[np.uint8]:
    """The label of each pixel: (H, W) uint8, 0 for background, 1 for polyp (or the class)."""
    image = _image(output, contract)
    if contract.kind == _MASK:
        labels = image[..., 0] if image.ndim == 3 else image
        return labels.astype(np.uint8)
    if contract.classes == 1:
        return np.asarray(image[..., 0] > contract.threshold, np.uint8)
    return np.asarray(image.argmax(axis=-1), np.uint8)
