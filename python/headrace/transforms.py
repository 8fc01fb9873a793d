"""What a stream does to pictures, on its own threads: ``RandomResizedCrop(224) | HorizontalFlip()``.

Random choices depend on (seed, epoch, position) alone, so a resumed run sees the same pixels. Sizes, filters and types are checked
where a stream is opened: it raises ``Invalid``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from headrace.errors import Invalid


class ImageSteps:
    """Steps in order; ``|`` joins them."""

    def __init__(self, steps: Sequence[dict[str, Any]]) -> None:
        self.steps = list(steps)

    def __or__(self, other: ImageSteps) -> ImageSteps:
        return ImageSteps([*self.steps, *other.steps])

    def to_json(self) -> str:
        """The steps as the program's ``--image-steps`` takes them."""
        return json.dumps(self.steps)

    def __repr__(self) -> str:
        return " | ".join(
            step["op"] + "(" + ", ".join(f"{key}={value!r}" for key, value in step.items() if key != "op") + ")"
            for step in self.steps
        )


def _size(size: int | Sequence[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else [int(n) for n in size]


def RandomResizedCrop(
    size: int | Sequence[int],
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    filter: str = "bilinear",
) -> ImageSteps:
    """A random part of the picture (``scale``: of its area, ``ratio``: width / height), resized to ``size``: one
    number, or (height, width). As torchvision's. Filters: nearest, box, bilinear, bicubic, lanczos (Pillow's, antialiased)."""
    return ImageSteps(
        [
            {
                "op": "random_resized_crop",
                "size": _size(size),
                "scale": list(scale),
                "ratio": list(ratio),
                "filter": filter,
            }
        ]
    )


def Resize(size: int | Sequence[int], filter: str = "bilinear") -> ImageSteps:
    """Resizes so that the shorter side is ``size``, or to (height, width)."""
    return ImageSteps(
        [{"op": "resize", "size": size if isinstance(size, int) else [int(n) for n in size], "filter": filter}]
    )


def CenterCrop(size: int | Sequence[int]) -> ImageSteps:
    """The middle of the picture: ``size``, or (height, width)."""
    return ImageSteps([{"op": "center_crop", "size": _size(size)}])


def RandomCrop(size: int | Sequence[int]) -> ImageSteps:
    """A random part of ``size``, or (height, width)."""
    return ImageSteps([{"op": "random_crop", "size": _size(size)}])


def HorizontalFlip(p: float = 0.5) -> ImageSteps:
    """Left to right, with probability ``p``."""
    return ImageSteps([{"op": "horizontal_flip", "p": p}])


def _around_one(name: str, value: float | Sequence[float]) -> list[float]:
    if isinstance(value, int | float):
        if value < 0:
            raise Invalid(f"{name} is a number of at least 0, or (low, high)")
        return [max(0.0, 1 - value), 1 + value]
    return [float(n) for n in value]


def ColorJitter(
    brightness: float | Sequence[float] = 0,
    contrast: float | Sequence[float] = 0,
    saturation: float | Sequence[float] = 0,
    hue: float | Sequence[float] = 0,
) -> ImageSteps:
    """Random factors around 1 (a number: ± that much; or (low, high)), and a random turn of the hue in turns, applied in
    this order.

    Raises:
        Invalid: a number is below 0.
    """
    hues = [-hue, hue] if isinstance(hue, int | float) else [float(n) for n in hue]
    return ImageSteps(
        [
            {
                "op": "color_jitter",
                "brightness": _around_one("brightness", brightness),
                "contrast": _around_one("contrast", contrast),
                "saturation": _around_one("saturation", saturation),
                "hue": hues,
            }
        ]
    )


def Normalize(
    mean: Sequence[float] = (0.485, 0.456, 0.406), std: Sequence[float] = (0.229, 0.224, 0.225)
) -> ImageSteps:
    """(pixel / 255 - mean) / std by channel, as float32 unless ``To`` says otherwise; ImageNet's numbers by default."""
    return ImageSteps([{"op": "normalize", "mean": list(mean), "std": list(std)}])


def To(dtype: str) -> ImageSteps:
    """uint8 (0 to 255), or float16, bfloat16, float32 (0 to 1 unless normalized)."""
    return ImageSteps([{"op": "to", "dtype": dtype}])


def Layout(layout: str) -> ImageSteps:
    """``NCHW`` (by default) or ``NHWC``."""
    return ImageSteps([{"op": "layout", "layout": layout}])
