"""Images as arrays and as files: IDX (as MNIST has them), NPZ, and folders of PNG or JPEG files by class.

Each reader gives a table: a column `target`, a column `split` where the source has its own division, and one column
of uint8 for each pixel, in the order channel, row, column.
"""

import gzip
import math
import os
import struct
import tempfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src.data.table import SPLIT, in_order
from src.errors import InputError

Shape = tuple[int, int, int]
TARGET = "target"
PICTURES = (".png", ".jpg", ".jpeg")
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_PARTS = {"train": "train", "t10k": "test", "test": "test"}  # the first word of a file's name → the split


class Images(NamedTuple):
    """frame as above; shape of one image; notes for the user."""

    frame: pd.DataFrame
    shape: Shape
    notes: list[str]


class Wanted(NamedTuple):
    """What pictures in files become: height and width in pixels, 1 (grey) or 3 (RGB) channels; whether a file that is
    no picture is skipped."""

    size: tuple[int, int]
    channels: int
    skip_bad: bool


def idx_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*-idx[13]-ubyte*") if path.is_file()) if folder.is_dir() else []


def picture_files(folder: Path) -> list[Path]:
    """The pictures in the folders of a folder, one or two levels down."""
    if not folder.is_dir():
        return []
    found = [*folder.glob("*/*"), *folder.glob("*/*/*")]
    return sorted(path for path in found if path.suffix.lower() in PICTURES)


def idx(folder: Path) -> Images:
    """A folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…; plain or .gz. Without t10k there is no
    division."""
    images, labels, splits = [], [], []
    paths = idx_files(folder)
    for prefix, split in IDX_PARTS.items():
        pair = [
            next((path for path in paths if path.name.startswith(f"{prefix}-{kind}-idx")), None)
            for kind in ("images", "labels")
        ]
        if pair == [None, None]:
            continue
        if None in pair:
            lacking = "images" if pair[0] is None else "labels"
            raise InputError(f"{folder} has no {prefix}-{lacking}-idx… file beside the other: put all files there")
        found, wanted = (_read_idx(path) for path in pair if path)
        if found.ndim != 3 or wanted.ndim != 1 or len(found) != len(wanted):
            raise InputError(
                f"{pair[0]} has shape {list(found.shape)} and {pair[1]} {list(wanted.shape)}: "
                "images need three dimensions, labels one, and as many of each"
            )
        if found.dtype != np.uint8:
            raise InputError(f"{pair[0]} holds {found.dtype} values; images are uint8")
        images.append(found)
        labels.append(wanted)
        splits += [split] * len(wanted)
    if not images:
        raise InputError(f"{folder} has no train-images-idx3-ubyte and train-labels-idx1-ubyte files")
    if len({found.shape[1:] for found in images}) > 1:
        raise InputError(f"{folder}: images to train on and to test with have different sizes")
    return _images(np.concatenate(images)[:, None], np.concatenate(labels), splits)


def npz(path: Path) -> tuple[pd.DataFrame, Shape | None]:
    """An NPZ file with arrays x and y, or x_train, y_train, x_test, y_test as Keras has them. x is [N, features] or,
    uint8, images [N, H, W], [N, H, W, C]; y is [N]. No pickled objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name.lower(): archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive raises whatever zipfile, zlib and NumPy stumble over
        raise InputError(f"{path} is not an NPZ file that can be read: {error}") from None
    if {"x", "y"} <= arrays.keys():
        x, y, splits = arrays["x"], arrays["y"], []
    elif {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        pairs = [(arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in ("train", "test")]
        if pairs[0][0].shape[1:] != pairs[1][0].shape[1:]:
            raise InputError(f"{path}: x_train and x_test have different shapes")
        x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        splits = ["train"] * len(pairs[0][1]) + ["test"] * len(pairs[1][1])
    else:
        names = ", ".join(arrays) or "none"
        raise InputError(f"{path} needs arrays x and y, or x_train, y_train, x_test and y_test; it has: {names}")
    y = y.reshape(len(y), -1)[:, 0] if y.size == len(y) else y
    if y.ndim != 1 or len(x) != len(y):
        raise InputError(f"{path}: x has shape {list(x.shape)} and y {list(y.shape)}; y needs one value for each of x")
    if x.ndim == 2:
        frame = pd.DataFrame(x, columns=[f"x{place}" for place in range(x.shape[1])])
        return _with_facts(frame, y, splits), None
    if x.ndim not in (3, 4) or x.dtype != np.uint8:
        raise InputError(
            f"{path}: x has shape {list(x.shape)} and type {x.dtype}; a table has two dimensions, images three or four "
            "and type uint8"
        )
    images = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    found = _images(images, y, splits)
    return found.frame, found.shape


def folder(path: Path, wanted: Wanted) -> Images:
    """Pictures in a folder a class; or, one level deeper, in folders train, val and test that hold those."""
    files = picture_files(path)
    deep = {len(file.relative_to(path).parts) for file in files}
    if deep == {2, 3}:
        raise InputError(f"{path} has pictures one and two folders deep: use one folder a class throughout")
    splits = [file.relative_to(path).parts[0] for file in files] if deep == {3} else []
    kept, notes = list[int](), list[str]()
    shape = (len(files), wanted.channels, *wanted.size)
    with tempfile.TemporaryFile(dir=".") as file:  # mapped: memory holds what is in use, not all pictures
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here; in mapped memory it would be the end
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        pixels = np.memmap(file, np.uint8, "w+", shape=shape)
    for place, found in enumerate(in_order(partial(_picture, wanted=wanted), files)):
        if isinstance(found, np.ndarray):
            pixels[len(kept)] = found
            kept.append(place)
        elif wanted.skip_bad:
            notes.append(f"{files[place]} is no picture that can be read and was skipped")
        else:
            raise InputError(
                f"{files[place]} is no picture that can be read ({found}). Repair or remove it, or set "
                "prepare.on_bad_image: skip"
            )
    if not kept:
        raise InputError(f"{path} has no picture that can be read")
    labels = np.array([files[place].parent.name for place in kept], dtype=object)
    images = _images(pixels[: len(kept)], labels, [splits[place] for place in kept] if splits else [])
    return images._replace(notes=notes)


def _picture(path: Path, wanted: Wanted) -> np.ndarray | Exception:
    """uint8 [channels, height, width], or why there is none."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            height, width = wanted.size
            plain = picture.convert("L" if wanted.channels == 1 else "RGB")
            array = np.asarray(plain if plain.size == (width, height) else plain.resize((width, height)))
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        return error
    return array[None] if wanted.channels == 1 else array.transpose(2, 0, 1)


def _read_idx(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is a damaged gzip file: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise InputError(f"{path} is no IDX file: it does not begin with the format's magic number")
    kind, dimensions = np.dtype(IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else (0,)
    needed = start + int(np.prod(shape, dtype=object)) * kind.itemsize
    if len(content) != needed:
        raise InputError(f"{path} is cut or damaged: it has {len(content)} bytes, its header says {needed}")
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def _images(pixels: np.ndarray, labels: np.ndarray, splits: list[str]) -> Images:
    """pixels: uint8 [N, channels, height, width]."""
    count, channels, height, width = pixels.shape
    one = channels == 1
    names = [
        f"pixel_{row}_{column}" if one else f"pixel_{channel}_{row}_{column}"
        for channel in range(channels)
        for row in range(height)
        for column in range(width)
    ]
    frame = pd.DataFrame(pixels.reshape(count, -1), columns=names, copy=False)
    return Images(_with_facts(frame, labels, splits), (channels, height, width), [])


def _with_facts(frame: pd.DataFrame, labels: np.ndarray, splits: list[str]) -> pd.DataFrame:
    facts: dict[str, Any] = {TARGET: labels, **({SPLIT: splits} if splits else {})}
    return pd.concat([frame, pd.DataFrame(facts)], axis=1)
