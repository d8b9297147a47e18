"""The memory of the process: what was freed is kept for what comes next, what was read of a file is given back."""

import ctypes
import functools
import mmap
import sys
from pathlib import Path

MADV_DONTNEED = 4
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep_freed() -> None:
    """Have large blocks that are freed stay with the process.

    glibc gives each back to the kernel, which clears its pages when the next one is wanted: for a small ResNet on two
    cores a quarter of the time, for the preparation of a large table a fifth. One arena for all threads, as what is
    kept would else be kept once a thread. Other allocators are left alone.
    """
    if sys.platform == "linux" and hasattr(_libc(), "mallopt"):  # musl has none
        _libc().mallopt(M_MMAP_THRESHOLD, 1 << 30)
        _libc().mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        _libc().mallopt(M_ARENA_MAX, 1)


def trim() -> None:
    """Give what was freed, and kept, back to the kernel."""
    if sys.platform == "linux" and hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(0)


def is_mapped(start: int, stop: int) -> bool:
    """Whether a file stands behind the addresses from `start` to before `stop`: what is there can be read again."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        span, _, _, _, inode, *_ = line.split()
        first, last = (int(address, 16) for address in span.split("-"))
        if first <= start and stop <= last:
            return inode != "0"
    return False


def release(start: int, stop: int) -> None:
    """Give back the pages from the one that `start` lies in to before the one that `stop` lies in. They must be those
    of a file that was only read (`is_mapped`): what else is there would be gone."""
    first, last = start // mmap.PAGESIZE * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
