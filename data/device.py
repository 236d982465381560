"""Images in the memory of the device that trains on them, from which batches are made there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hpo.data.dataset import DataError, Labelled


@dataclass(frozen=True, slots=True, eq=False)
class DeviceImages:
    """N inputs and their `labels` `(N,)` or `(N, K)` on one device, in the form of `Labelled`.

    Input i is row `rows[i]` of `images` `(M, C, ...)`, or row i if `rows` is None. `mean` and `std` `(C, 1,
    ...)` are those of the inputs, or of pixels / 255. Their dtype is that of batches.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    rows: Tensor | None = None

    @classmethod
    def from_labelled(
        cls,
        labelled: Labelled,
        device: torch.device | str,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> "DeviceImages":
        """Return all examples of `labelled` on `device`. `mean` and `std` have one number per channel or
        feature.

        On a CPU they are the arrays of `labelled`, not copies.

        Raises DataError for another count of numbers, and for a std that is not above 0.
        """
        if not len(mean) == len(std) == labelled.channels or not all(value > 0 for value in std):
            raise DataError(
                f"mean {tuple(mean)}, std {tuple(std)}: "
                f"{labelled.channels} of each, one per channel, and every std above 0"
            )
        images = torch.from_numpy(labelled.images).view(-1, *labelled.shape)  # (N, C, ...)
        labels = torch.from_numpy(labelled.labels).to(device)
        per_channel = (-1, *[1] * (images.ndim - 2))
        return cls(
            images.to(device),
            labels.to(dtype) if labels.is_floating_point() else labels,
            torch.tensor(mean, dtype=dtype, device=device).view(per_channel),
            torch.tensor(std, dtype=dtype, device=device).view(per_channel),
        )

    @classmethod
    def from_rows(
        cls,
        labelled: Labelled,
        rows: npt.NDArray[np.int64],
        device: torch.device | str,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> "DeviceImages":
        """Return the images of `labelled` at `rows` `(N,)` on `device`.

        On a CPU they stay in the array of `labelled`, so that processes which map it share one copy. Another
        device gets the chosen rows alone. Raises DataError as `from_labelled` does.
        """
        if torch.device(device).type != "cpu":
            chosen = Labelled(labelled.images[rows], labelled.labels[rows])
            return cls.from_labelled(chosen, device, mean, std)
        whole, index = cls.from_labelled(labelled, device, mean, std), torch.from_numpy(rows)
        return replace(whole, labels=whole.labels.index_select(0, index), rows=index)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "DeviceImages":
        """Return a copy of the images at `index`, int64 on the same device."""
        images = self.images.index_select(0, self._rows_at(index))
        return replace(self, images=images, labels=self.labels.index_select(0, index), rows=None)

    def batch(
        self, index: Tensor, transform: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return normalised inputs `(B, C, ...)` and labels `(B,)` or `(B, K)` at `index` `(B,)`.

        `index` is int64 on the same device. `transform` maps images `(B, C, H, W)`, with values of 0 to 1 if
        they are of bytes, before normalisation.
        """
        # For bytes on a CPU, index_select is ten times as fast as images[index].
        rows = self.images.index_select(0, self._rows_at(index))
        images = rows.to(self.mean.dtype)
        if rows.dtype == torch.uint8:
            images = images.div_(255)
        if transform is not None:
            images = transform(images)
        return (images - self.mean) / self.std, self.labels.index_select(0, index)

    def _rows_at(self, index: Tensor) -> Tensor:
        return index if self.rows is None else self.rows.index_select(0, index)
