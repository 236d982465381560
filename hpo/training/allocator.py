"""The C library's allocator: memory freed by one training step is kept for the next."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
LARGEST = 2**31 - 1
LARGEST_MMAP_THRESHOLD_BEFORE_GLIBC_2_35 = 2**25  # 32 MiB


def keep_freed_memory() -> None:
    """Make this process keep freed memory instead of returning it to the system.

    Otherwise the system maps the pages anew in each step, which makes each step slower. Does nothing if the C
    library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and (
        mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD_BEFORE_GLIBC_2_35)
    ):
        # Set alone, the trim threshold would stop glibc from raising the mmap threshold by itself.
        mallopt(TRIM_THRESHOLD, LARGEST)
