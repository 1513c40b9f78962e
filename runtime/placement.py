"""Which of a model's layers go on which GPU: arithmetic only, before anything is loaded. Pure.

The engine puts the last `n` of a model's layers on GPUs, in the order of its devices; the output
counts as one more layer, behind all blocks. Cells of a block lie where the block lies. The input
table stays in main memory (llama.cpp 0c1e57098, `load_tensors`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .devices import Device, DeviceKind
from .errors import LoadError
from .request import LoadOptions

# What a driver, its kernels and the library's own buffers take on each GPU that is used, beyond
# what is summed up here. A CUDA context alone is 300 to 500 MB.
GPU_RESERVE = 512 << 20


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """A model's memory in bytes.

    Attributes:
        blocks: weights of each block.
        cells: what one token takes in each, and `states` what all sequences together do.
        input: the table of input tokens.
        output: what turns the last block's result into logits.
        tied: of `output`, what is part of `input` as well; a GPU has a copy of its own.
        host_work: buffers in main memory, the process itself among them.
        gpu_work: buffers on each GPU that has layers; `output_work` on the one with the output.
    """

    blocks: tuple[int, ...]
    cells: tuple[int, ...]
    states: tuple[int, ...]
    input: int
    output: int
    tied: int
    host_work: int
    gpu_work: int
    output_work: int

    @property
    def weights(self) -> int:
        """All weights, once."""
        return sum(self.blocks) + self.input + self.output - self.tied

    @property
    def num_layers(self) -> int:
        """Blocks, and the output."""
        return len(self.blocks) + 1

    def layer(self, number: int, num_cells: int) -> int:
        """Weights and cells of a layer."""
        if number == len(self.blocks):
            return self.output
        return self.blocks[number] + self.states[number] + self.cells[number] * num_cells

    def matrices(self, number: int) -> int:
        """Weights of a layer alone."""
        return self.output if number == len(self.blocks) else self.blocks[number]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where layers go.

    Attributes:
        gpu_layers: how many, counted from the output.
        counts: of these, how many on each GPU.
        on_gpus: bytes on each GPU; `is_shared` where that is main memory as well.
    """

    gpu_layers: int = 0
    counts: tuple[int, ...] = ()
    on_gpus: tuple[int, ...] = ()
    is_shared: bool = False


def place(
    sizes: ModelSizes,
    options: LoadOptions,
    gpus: Sequence[Device],
    *,
    num_cells: int,
    reserve: int = GPU_RESERVE,
) -> Placement:
    """As many layers on GPUs as fit, or as many as the options want, whether they fit or not.

    Raises:
        LoadError: `main_gpu` is none of them.
    """
    wanted = sizes.num_layers if options.num_gpu < 0 else options.num_gpu
    if not gpus or not wanted:
        return Placement()
    if options.main_gpu >= len(gpus):
        raise LoadError(
            f"main_gpu is {options.main_gpu}, and there are {len(gpus)} GPUs, counted from 0",
            hint="`pannier doctor` lists them",
        )
    room = [max(0, gpu.free - reserve) for gpu in gpus]
    most = min(wanted, sizes.num_layers)
    first = Placement()
    for layers in range(most, 0, -1):
        for counts in _ways(sizes, options, room, layers, num_cells):
            used = _used(sizes, options, counts, num_cells)
            found = Placement(layers, counts, used, gpus[0].kind is DeviceKind.IGPU)
            if all(need <= free for need, free in zip(used, room, strict=True)):
                return found
            first = first if first.gpu_layers else found
        if options.num_gpu > 0:
            # Somebody said how many; what does not fit is for them to read.
            return first
    return Placement()


def fits(placement: Placement, gpus: Sequence[Device], *, reserve: int = GPU_RESERVE) -> bool:
    """Whether each GPU has the room that it is given to hold."""
    pairs = zip(placement.on_gpus, gpus, strict=False)
    return all(need <= max(0, gpu.free - reserve) for need, gpu in pairs)


def _ways(
    sizes: ModelSizes, options: LoadOptions, room: Sequence[int], layers: int, num_cells: int
) -> Iterator[tuple[int, ...]]:
    """Ways to hand layers to GPUs, the best first."""
    if options.split_mode == "none":
        yield tuple(layers if at == options.main_gpu else 0 for at in range(len(room)))
        return
    if options.tensor_split:
        shares = [*options.tensor_split, *[0.0] * len(room)][: len(room)]
        if any(shares):
            yield _proportional(shares, layers)
        return
    if any(room):
        yield _proportional(room, layers)
        yield _packed(sizes, room, layers, num_cells)


def _proportional(shares: Sequence[float], layers: int) -> tuple[int, ...]:
    """Layers by shares, as the engine divides them: each goes where its place in the row falls.

    >>> _proportional([3, 1], 8), _proportional([0, 1], 3)
    ((6, 2), (0, 3))
    """
    total = float(sum(shares))
    ends = [end / total for end in accumulate(shares)]
    counts = [0] * len(shares)
    for layer in range(layers):
        place = layer / layers
        counts[next((at for at, end in enumerate(ends) if end > place), len(ends) - 1)] += 1
    return tuple(counts)


def _packed(sizes: ModelSizes, room: Sequence[int], layers: int, num_cells: int) -> tuple[int, ...]:
    """Layers on the first GPU until it is full, then on the next: fits wherever anything does."""
    counts = [0] * len(room)
    at, left = 0, room[0] - sizes.gpu_work
    last = len(sizes.blocks)
    for layer in range(sizes.num_layers - layers, sizes.num_layers):
        need = sizes.layer(layer, num_cells) + (sizes.output_work if layer == last else 0)
        while need > left and at < len(room) - 1:
            at += 1
            left = room[at] - sizes.gpu_work
        counts[at] += 1
        left -= need
    return tuple(counts)


def _used(
    sizes: ModelSizes, options: LoadOptions, counts: Sequence[int], num_cells: int
) -> tuple[int, ...]:
    """Bytes on each GPU."""
    used = []
    start = sizes.num_layers - sum(counts)
    is_cut = options.split_mode == "row"
    shared = sum(map(sizes.matrices, range(start, sizes.num_layers))) if is_cut else 0
    for count in counts:
        layers = range(start, start + count)
        need = sum(sizes.layer(number, num_cells) for number in layers)
        if shared:
            # Every matrix is cut by the shares; cells stay with their block.
            need -= sum(map(sizes.matrices, layers))
            need += shared * count // sum(counts)
        need += sizes.gpu_work if count else 0
        need += sizes.output_work if count and layers[-1] == len(sizes.blocks) else 0
        used.append(need)
        start += count
    return tuple(used)
