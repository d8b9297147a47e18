"""The memory of the process: what was freed is kept for what comes next."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep_freed() -> None:
    """Have large blocks that are freed stay with the process.

    glibc gives each back to the kernel, which clears its pages when the next one is wanted: for a small ResNet on two
    cores a quarter of the time, for the preparation of a large table a fifth. One arena for all threads, as what is
    kept would else be kept once a thread. Other allocators are left alone.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none
            libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
            libc.mallopt(M_ARENA_MAX, 1)
