"""Helpers of tasks on images: synthetic samples, cases, resizing as in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import PilImage
from equipoise.validators.core.types import (
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
    SampleValue,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.media import open_image
from equipoise.validators.models.samples import take_cyclic

SYNTHETIC_SIZES = ((64, 48), (48, 64), (80, 80))
"""Width and height of synthetic images: landscape, portrait, square."""

BORDER_PIXEL_SHARE = 0.001
"""Share of a mask's pixels that may flip: at the border of an object two classes are equally likely, and rounding
errors decide. One in a thousand is less than one pixel per row of an image of usual size.
"""


def synthetic_image(index: int, size: tuple[int, int] | None = None) -> Array:
    """Returns an image of coloured shapes on a gradient (height, width, 3); always the same for the same index."""
    width, height = size or SYNTHETIC_SIZES[index % len(SYNTHETIC_SIZES)]
    y, x = np.mgrid[:height, :width]
    image = np.stack(
        [x * 255 / width, y * 255 / height, np.full_like(x, 60 * (index + 1) % 256)], -1
    )
    disc = (x - width * (index + 1) / 4) ** 2 + (y - height / 2) ** 2 < (
        min(width, height) / 4
    ) ** 2
    image[disc] = [(230, 40, 40), (40, 200, 60), (40, 60, 230)][index % 3]
    image[height * 3 // 4 :, : width // (2 + index % 3)] = (250, 240, 80)
    return image.round().astype(np.uint8)


def synthetic_image_samples(**fields: SampleValue) -> list[Sample]:
    """Returns three images of different sizes, each with the same further fields."""
    return [{"image": synthetic_image(index), **fields} for index in range(len(SYNTHETIC_SIZES))]


def load_image(sample: Sample) -> PilImage:
    """Opens the image of a sample."""
    source = sample["images"] if "images" in sample else sample["image"]
    return open_image(source[0] if isinstance(source, list) else source)


def image_sizes(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """Returns height and width of every sample's image."""
    return [load_image(sample).size[::-1] for sample in samples]


def image_cases(model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
    """Returns cases of one image, of three, and of a larger one if the processor preserves the size.

    If it does not pad, the images of a batch have one size, and a further case has a rotated image.
    """
    three = take_cyclic(samples, 3)
    if not keeps_size(model):
        return [Case("single", (samples[0],)), Case("batch", three)]
    first = load_image(samples[0])
    large = Case("large", ({**samples[0], "image": enlarge(first)},))
    if _pads_images(model):
        return [Case("single", (samples[0],)), Case("batch", three), large]
    resized = tuple({**sample, "image": load_image(sample).resize(first.size)} for sample in three)
    rotated = {**samples[0], "image": first.rotate(90, expand=True)}
    return [
        Case("single", (samples[0],)),
        Case("batch", resized),
        large,
        Case("turned", (rotated,)),
    ]


def keeps_size(model: ModelFolder) -> bool:
    """Checks whether images keep their size or aspect ratio: neither resized to a square nor cropped."""
    preprocessor = model.preprocessor_config
    config = preprocessor.get("image_processor", preprocessor)
    size = config.get("size")
    square = isinstance(size, Mapping) and {"height", "width"} <= set(size)
    square = square and not config.get("keep_aspect_ratio")
    return not (config.get("do_center_crop") or (square and config.get("do_resize", True)))


def _pads_images(model: ModelFolder) -> bool:
    """Checks whether images of different sizes are padded to one array, with or without a mask."""
    processor = model.image_processor
    masks = "pixel_mask" in getattr(processor, "model_input_names", ())
    return masks or bool(getattr(processor, "do_pad", False))


def enlarge(image: PilImage) -> PilImage:
    """Returns an image about 1.5 times as wide and 1.25 times as high: an odd size that no other sample has."""
    width, height = image.size
    return image.resize((width * 3 // 2 | 1, height * 5 // 4 | 1))


def preprocess_images(
    model: ModelFolder, samples: Sequence[Sample], **options: CallOption
) -> Arrays:
    """Returns the pixel values of the images from the image processor; ``options`` are those of its call.

    Raises:
        InputError: The processor refuses an option.
    """
    images = [load_image(sample) for sample in samples]
    try:
        outputs = model.image_processor(images=images, return_tensors="np", **options)
    except Exception as error:
        # With options of the call, whatever a processor raises is about them.
        if not options:
            raise
        raise InputError(
            f"the image processor refuses the options: {error}", found=str(options)
        ) from error
    return {name: pad_and_stack(value) for name, value in outputs.items()}


class ImageTask:
    """Base class of tasks whose only input is an image."""

    aliases = ()

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic images."""
        return synthetic_image_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`image_cases`."""
        return image_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the images and stores their sizes."""
        options = case.options.get("image_processor_kwargs") or {}
        arrays = preprocess_images(model, case.samples, **options)
        return Batch(case, arrays, context=image_sizes(case.samples))


def pad_and_stack(value: Array | Sequence[Array]) -> Array:
    """Returns an array; arrays of different sizes are padded with zeros on the right and at the bottom."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.astype(np.int64) if value.dtype.kind in "iub" else value
    parts = [np.asarray(part) for part in value]
    shape = np.max([part.shape for part in parts], axis=0)
    stacked = np.zeros((len(parts), *shape), parts[0].dtype)
    for target, part in zip(stacked, parts, strict=True):
        target[tuple(slice(length) for length in part.shape)] = part
    return stacked


def resize(array: Array, size: tuple[int, int], mode: str = "bilinear") -> Array:
    """Resizes the last two axes as ``torch.nn.functional.interpolate`` with ``align_corners=False``.

    >>> resize(np.array([[0.0, 4.0]]), (1, 4)).tolist()
    [[0.0, 1.0, 3.0, 4.0]]
    """
    rows = _interpolation_weights(array.shape[-2], size[0], mode)
    columns = _interpolation_weights(array.shape[-1], size[1], mode)
    return np.asarray(rows @ array.astype(np.float64) @ columns.T)


def _interpolation_weights(size: int, new_size: int, mode: str) -> Array:
    """Returns a matrix (wanted, given): row i contains the weights of the input pixels for output pixel i."""
    if mode == "nearest":
        source = np.arange(new_size) * size // new_size
        return np.eye(size)[source]
    positions = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    if mode == "bilinear":
        positions = np.maximum(positions, 0)
    base = np.floor(positions).astype(int)
    weights = np.zeros((new_size, size))
    taps = (0, 1) if mode == "bilinear" else (-1, 0, 1, 2)
    for tap in taps:
        distance = np.abs(positions - (base + tap))
        value = 1 - distance if mode == "bilinear" else _cubic_kernel(distance)
        np.add.at(weights, (np.arange(new_size), np.clip(base + tap, 0, size - 1)), value)
    return weights


def _cubic_kernel(distance: Array, a: float = -0.75) -> Array:
    """Returns Keys' cubic kernel with PyTorch's constant."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
