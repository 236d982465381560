"""How to rebuild an exported network, and what it takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpo.export.metrics import Normalization
from hpo.values.data_shape import DataShape


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How to rebuild a network and prepare its input.

    `name` and `keywords` are arguments of `models.build_with`. Output i stands for `classes[i]`; a regression
    has no classes, and predicts numbers of `target_shape`, which is `()` or `(K,)`. Images have `in_channels`
    and an `image_size`, (H, W) in pixels. Other inputs have an `input_shape`, `(F,)` or `(C, ...)`. `mean`
    and `std` are those of the inputs, or of pixels / 255, one per channel or feature. An ensemble has several
    `members`. Predictions are averaged over the translations of an image by up to `shifts` pixels.
    """

    name: str
    classes: tuple[str, ...]
    in_channels: int | None
    image_size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    keywords: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    target_shape: tuple[int, ...] | None = None
    members: int = 1
    shifts: int = 0

    def __post_init__(self) -> None:
        if self.target_shape is None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes {self.classes}: they must be two or more different names")
        if self.target_shape is not None and (self.classes or len(self.target_shape) > 1):
            raise ValueError(f"target_shape {self.target_shape}: must be () or (K,), without classes")
        if self.input_shape is None:
            if self.in_channels not in (1, 3):
                raise ValueError(f"in_channels {self.in_channels}: must be 1 (grey) or 3 (RGB)")
            if self.image_size is None or min(self.image_size) < 1:
                raise ValueError(f"image_size {self.image_size}: must be height and width, at least 1 pixel")
        elif self.image_size is not None or min(self.input_shape, default=0) < 1:
            raise ValueError(
                f"input_shape {self.input_shape}: must be (F,) or (C, ...), without an image_size"
            )
        if self.members < 1:
            raise ValueError(f"members {self.members}: must be at least 1")
        check_shifts(self.shifts, self.image_size)
        if not len(self.mean) == len(self.std) == self.input[0] or min(self.std) <= 0:
            raise ValueError(
                f"mean {self.mean}, std {self.std}: one of each per channel, and every std above 0"
            )

    @property
    def input(self) -> tuple[int, ...]:
        """The shape of an input: `(C, H, W)` of an image."""
        if self.input_shape is not None:
            return self.input_shape
        assert self.image_size is not None
        assert self.in_channels is not None
        return (self.in_channels, *self.image_size)

    @property
    def shape(self) -> DataShape:
        """The shapes of an example."""
        return DataShape(self.input, len(self.classes) or None, self.target_shape or ())

    @property
    def normalization(self) -> Normalization:
        """The normalisation of the input."""
        return Normalization(self.mean, self.std)


def check_shifts(shifts: int, image_size: tuple[int, int] | None) -> None:
    """Raise `ValueError` if inputs cannot be shifted by this many pixels. `image_size`: None of no images."""
    if shifts == 0:
        return
    if image_size is None:
        raise ValueError(f"shifts {shifts}: the inputs are no images, and cannot be shifted")
    if not 0 < shifts < min(image_size):
        raise ValueError(f"shifts {shifts}: must be from 0 to {min(image_size) - 1} pixels")
