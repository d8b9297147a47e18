"""Batches gathered from tensors: no Python a sample, and one copy for several batches where they are small."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from src import memory
from src.augment import augment, width

CHUNK = 1 << 25  # bytes of inputs that are brought to the device at once, where they do not all fit on it
AHEAD = 1  # chunks that are read before they are needed
TRIM_EVERY = 256  # batches after which what was freed is given back: a step of a large network wants it again
REGION = 1 << 24  # bytes of a memory-mapped file that are held at once while rows of it are read
GATHER = 1 << 20  # bytes of inputs that are gathered at once on the device: calls are saved, and the cache is not left
ALIGNED = 64  # bytes: kernels round in another order where a batch begins elsewhere
# bytes up to which images lie there as the numbers that the network gets; more would not stay in the cache, and to
# bring them from the memory takes as long as to scale a fourth of the bytes again
SCALE_AHEAD = 1 << 22
SEEDED = 16  # epochs whose seeds are made at once: one that is made between two epochs takes 20 times as long

# of FBGEMM, for embeddings: rows of bytes as float32; each row ends with its factor and its shift, 4 bytes each
DEQUANTIZE = torch.ops.quantized.embedding_bag_byte_rowwise_offsets

Bounds = list[tuple[int, int]]
Pairs = Iterator[tuple[Tensor, Tensor]]
CPU = torch.device("cpu")


class Batches:
    """The batches of one split.

    inputs: float32 [N, ...], or uint8, which becomes (value - mean) / std by `scale`: at once, or a batch at a time
    where that would take more than SCALE_AHEAD; targets: [N]. Both are moved to `device`, unless they do not fit: then
    they are brought there in chunks (`_stream`), and the batches are the same. The last batch is smaller where `size`
    does not divide N, unless one sample would be alone in it: batch normalisation has no variance of one, so that
    sample joins the batch before.
    balance: an epoch draws N samples, every class as often as the others, instead of each sample once.
    strengths: of the changes to the images of an epoch, by AUGMENTATIONS; those of evaluation are never changed.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        size: int,
        seed: int = 0,
        scale: tuple[float, float] = (0.0, 1.0),
        balance: bool = False,
        strengths: dict[str, float] | None = None,
        device: torch.device = CPU,
        fits: bool = True,
    ) -> None:
        self.inputs, self.targets = (inputs.to(device), targets.to(device)) if fits else (inputs, targets)
        self.seed, self.scale, self.device, self.streamed = seed, scale, device, not fits
        self.balance = balance
        self.strengths = strengths if strengths and any(strengths.values()) else None
        starts = range(0, len(inputs), size)
        bounds = [(start, min(start + size, len(inputs))) for start in starts]
        if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
            bounds[-2:] = [(bounds[-2][0], len(inputs))]
        self.bounds = bounds
        self.sizes = [stop - start for start, stop in bounds]  # samples in each batch
        if not self.streamed and inputs.dtype == torch.uint8 and inputs.numel() * 4 <= SCALE_AHEAD:
            [(self.inputs, _)] = self._in_order([(0, len(inputs))])

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.bounds)

    def samples(self, batches: int) -> int:
        """Samples in the first so many batches."""
        return self.bounds[batches - 1][1] if batches else 0

    def __iter__(self) -> Pairs:
        """Every sample once, in the order of the rows: for evaluation."""
        return self._in_order(self.bounds)

    def epoch(self, number: int, skip: int = 0) -> Pairs:
        """An epoch's batches, from the one after `skip` on; their order is a function of (seed, epoch) and of nothing
        else. They last until the next epoch begins: it may lie where this one did."""
        generator = generator_of(self.seed, number)
        order = balanced(self.targets.cpu(), generator) if self.balance else shuffled(len(self.inputs), generator)
        draws = torch.rand(len(order), width(), generator=generator) if self.strengths else None
        bounds = self.bounds[skip:]
        if self._kept:
            (inputs, targets), kept = self._kept
            places = order.to(self.device)
            torch.index_select(self.inputs, 0, places, out=inputs)
            torch.index_select(self.targets, 0, places, out=targets)
            pairs = iter(kept[skip:])
        else:
            pairs = self._gathered(order, bounds)
        if draws is None and self.inputs.dtype != torch.uint8:
            yield from pairs
            return
        pieces = [None] * len(bounds) if draws is None else draws.to(self.device).split(self.sizes)[skip:]
        for (inputs, targets), piece in zip(pairs, pieces, strict=True):
            yield self._ready(inputs, piece), targets

    def _in_order(self, bounds: Bounds) -> Pairs:
        """The batches of those bounds, in the order of the rows, as the network gets them."""
        if self.streamed or in_one_pass(self.inputs):
            pairs = self._gathered(torch.arange(len(self.inputs), dtype=place_type(len(self.inputs))), bounds)
        else:
            pairs = ((self.inputs[start:stop], self.targets[start:stop]) for start, stop in bounds)
        for inputs, targets in pairs:
            yield self._ready(inputs), targets

    def _gathered(self, order: Tensor, bounds: Bounds) -> Pairs:
        """inputs[order[start:stop]] and the targets of those on the device, for each of the bounds."""
        if self.streamed:
            return self._stream(order, bounds)
        return self._gather(self.inputs, self.targets, order.to(self.device), bounds)

    def _gather(self, inputs: Tensor, targets: Tensor, places: Tensor, bounds: Bounds) -> Pairs:
        """inputs[places[start:stop]] and the targets of those, for each of the bounds; all on one device."""
        if in_one_pass(inputs):
            own = gather_scaled(inputs, places, bounds, self.scale)
        else:
            own = gather(inputs, places, bounds)
        return zip(own, gather(targets, places, bounds), strict=True)

    def _stream(self, order: Tensor, bounds: Bounds) -> Pairs:
        """The batches of data that are not on the device. A thread reads the chunks that come next, each in the order
        of the file, while the one before them trains. order: [M], on the CPU."""
        groups, since_trim = grouped(self.inputs, bounds, CHUNK), 0
        is_pinned = self.device.type == "cuda"  # such memory can be copied while the device computes
        readers = [
            (
                part,
                read_rows if memory.is_mapped(part.data_ptr(), part.data_ptr() + part.nbytes) else Tensor.__getitem__,
            )
            for part in (self.inputs, self.targets)
        ]

        def read(group: Bounds) -> list[Tensor]:
            rows, place = order[group[0][0] : group[-1][1]].sort()
            parts = [*(reader(part, rows) for part, reader in readers), place.argsort()]
            return [part.pin_memory() for part in parts] if is_pinned else parts

        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(read, group) for group in groups[:AHEAD])
            for number, group in enumerate(groups):
                rows, wanted, places = (
                    part.to(self.device, non_blocking=is_pinned) for part in waiting.popleft().result()
                )
                if number + AHEAD < len(groups):
                    waiting.append(pool.submit(read, groups[number + AHEAD]))
                first = group[0][0]
                within = [(start - first, stop - first) for start, stop in group]
                yield from self._gather(rows, wanted, places, within)
                del rows, wanted, places
                since_trim += len(group)
                # chunks leave holes that the next ones do not fit in
                if self.device.type == "cpu" and since_trim >= TRIM_EVERY:
                    memory.trim()
                    since_trim = 0

    @cached_property
    def _kept(self) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]] | None:
        """Where every epoch lies that is gathered at once, and the batches there: what is written anew is in the cache
        still. None where an epoch is too large for that, its batches would not lie as one alone would, or it is made of
        bytes, which are scaled when they are gathered."""
        parts = [self.inputs, self.targets]
        is_large = any(part.nbytes > GATHER for part in parts)
        is_split = any(len(grouped(part, self.bounds, at_once(part, self.bounds))) > 1 for part in parts)
        if self.streamed or in_one_pass(self.inputs) or is_large or is_split:
            return None
        room = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in parts]
        return room, list(zip(*(part.split(self.sizes) for part in room), strict=True))

    def _ready(self, inputs: Tensor, draws: Tensor | None = None) -> Tensor:
        """What the network gets: float, scaled, and augmented where there are draws."""
        if inputs.dtype == torch.uint8:  # others are scaled already
            mean, std = self.scale
            floats, shift = inputs.to(torch.float32), torch.tensor(-mean / std)
            inputs = torch.add(shift, floats, alpha=1 / std, out=floats)  # scaled in one pass
        if draws is not None and self.strengths:
            return augment(inputs, draws, self.strengths)
        return inputs


def gather(values: Tensor, places: Tensor, bounds: Bounds) -> Iterator[Tensor]:
    """values[places[start:stop]] for each of the bounds, which follow one another; several are gathered at once if
    each then lies in memory as one that is gathered alone would."""
    for group in grouped(values, bounds, at_once(values, bounds)):
        together = values.index_select(0, places[group[0][0] : group[-1][1]])
        yield from together.split([stop - start for start, stop in group])


def in_one_pass(inputs: Tensor) -> bool:
    """Whether these are gathered and scaled at once: bytes on a CPU."""
    return inputs.dtype == torch.uint8 and inputs.device.type == "cpu"


def gather_scaled(values: Tensor, places: Tensor, bounds: Bounds, scale: tuple[float, float]) -> Iterator[Tensor]:
    """(values[places[start:stop]] - mean) / std, float32, for each of the bounds, on a CPU. With two threads it
    takes a third of the time of gathering, making float and scaling one after another; the same to rounding.

    values: uint8 [N, ...], of two dimensions at least, contiguous; places: int32 or int64 [M].
    """
    mean, std = scale
    rows, groups = values.flatten(1), grouped(values, bounds, GATHER)
    end = torch.tensor([1 / std, -mean / std]).view(torch.uint8)
    most = max((group[-1][1] - group[0][0] for group in groups), default=0)
    room = torch.empty(most, rows.shape[1] + len(end), dtype=torch.uint8)
    pixels, room[:, rows.shape[1] :] = room[:, : rows.shape[1]], end
    numbers = torch.arange(most + 1, dtype=torch.int32)
    for group in groups:
        first, last = group[0][0], group[-1][1]
        torch.index_select(rows, 0, places[first:last], out=pixels[: last - first])
        for start, stop in group:
            batch, count = room[start - first : stop - first], stop - start
            floats = DEQUANTIZE(batch, numbers[:count], numbers[: count + 1], include_last_offset=True)
            yield floats.view(count, *values.shape[1:])


def at_once(values: Tensor, bounds: Bounds) -> int:
    """Bytes that are gathered at once; 0, which is a batch alone, where its neighbour would begin elsewhere."""
    return GATHER if batch_bytes(values, bounds) % ALIGNED == 0 else 0


def read_rows(values: Tensor, rows: Tensor) -> Tensor:
    """values[rows] of a memory-mapped file; rows: in order. No more than REGION bytes of it are held at once, and none
    in the end."""
    first, last, a_row = values.data_ptr(), values.data_ptr() + values.nbytes, values[:1].nbytes
    count, found = max(REGION // a_row, 1), torch.empty(len(rows), *values.shape[1:], dtype=values.dtype)
    edges = torch.searchsorted(rows.long(), torch.arange(0, len(values) + count, count)).tolist()
    for number, (start, stop) in enumerate(pairwise(edges)):
        if start == stop:
            continue
        found[start:stop] = values[rows[start:stop]]
        memory.release(first + number * count * a_row, min(first + (number + 1) * count * a_row, last))
    return found


def batch_bytes(values: Tensor, bounds: Bounds) -> int:
    """Of the first batch; all but the last are of its size."""
    return values[:1].nbytes * (bounds[0][1] - bounds[0][0]) if bounds else 0


def grouped(values: Tensor, bounds: Bounds, limit: int) -> list[Bounds]:
    """As many neighbouring batches at a time as have no more than `limit` bytes, and one at least."""
    count = max(limit // max(batch_bytes(values, bounds), 1), 1)
    return [bounds[first : first + count] for first in range(0, len(bounds), count)]


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """Random numbers that (seed, epoch) decide, on the CPU, so that every device trains in the same order."""
    block, place = divmod(epoch, SEEDED)
    return torch.Generator().manual_seed(seeds(seed, block)[place])


@lru_cache(maxsize=4096)  # lanes have many seeds, and ask for those of an epoch in turn
def seeds(seed: int, block: int) -> list[int]:
    """Of the generators of SEEDED epochs that follow one another."""
    epochs = range(block * SEEDED, (block + 1) * SEEDED)
    return [int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1) for epoch in epochs]


def shuffled(length: int, generator: torch.Generator) -> Tensor:
    """Every number of range(length) once, of the dtype that `place_type` says."""
    return torch.randperm(length, generator=generator, dtype=place_type(length))


def place_type(length: int) -> torch.dtype:
    """The dtype that numbers so many rows: int32 where it is enough, half of the memory of int64."""
    return torch.int32 if length < 1 << 31 else torch.int64


def balanced(targets: Tensor, generator: torch.Generator) -> Tensor:
    """As many places as there are targets [N], int64: a class at random, then one of its samples, with replacement."""
    _, number, counts = targets.unique(return_inverse=True, return_counts=True)
    by_class = number.argsort(stable=True)
    chosen = torch.randint(len(counts), (len(targets),), generator=generator)
    within = (torch.rand(len(targets), dtype=torch.float64, generator=generator) * counts[chosen]).long()
    return by_class[(counts.cumsum(0) - counts)[chosen] + within]
