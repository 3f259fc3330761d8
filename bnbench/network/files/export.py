"""A network as a program of torch.export (X.pt2), loaded again and compared."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import ResultsError
from bnbench.base.files import disk_errors, write_file, written_aside
from bnbench.base.network_records import Proof
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.files.save import check_free
from bnbench.network.source import call

#: Samples of the example, and of a second batch, which shows whether the program takes other sizes.
SAMPLES, OTHER = 2, 3
#: Differences of the loaded program's outputs in units of the type's rounding, of the largest entry.
_ULPS = 16
_NAME = "exported"
_FIX = "--export with a name in a folder that you may write to."


def check_export(path: Path, force: bool) -> None:
    """Raises ResultsError where the name can't be that of such a file, or is taken."""
    if path.suffix != ".pt2":
        raise ResultsError(
            f"--export {path}: torch.export writes .pt2 files.", fix=f"--export {path.with_suffix('.pt2')}"
        )
    if not force:
        check_free(path, "--export")


def export(model: nn.Module, inputs: Callable[[int], Any], path: str | Path, *, force: bool = False) -> Proof:
    """Write the network, in inference, as X.pt2; load that and compare its outputs with the network's own.

    inputs: from a number of samples to what the network is called with. The proof fails where torch.export can't take
    the network; then there is no file. Raises ResultsError where the file is there, or can't be written.
    """
    path = Path(path)
    check_export(path, force)
    with left_as_found(torch.device("cpu")), _quiet(), torch.no_grad():
        try:
            own = copy.deepcopy(model).eval()
            expected = {samples: _outputs(own, inputs(samples)) for samples in (SAMPLES, OTHER)}
            program, any_batch = _exported(own, inputs)
            content = io.BytesIO()
            torch.export.save(program, content)
        except BaseException as error:  # whatever torch or the user's module raises
            raise_interrupt(error)
            return Proof(_NAME, False, None, f"torch.export can't take this network: {first_line(error)}")
        try:
            with disk_errors(path, _FIX), written_aside(path) as aside:
                write_file(aside, content.getvalue())
                proof = _compared(aside, inputs, expected, any_batch)
                if not proof.passed:
                    raise _AnotherFunction(proof)
        except _AnotherFunction as error:
            return error.proof
    return proof


class _AnotherFunction(Exception):
    """The loaded program computes something else: its file does not stay."""

    def __init__(self, proof: Proof) -> None:
        super().__init__()
        self.proof = proof


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings and what torch.export prints of a network that it can't take are left out: the reason is returned."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _exported(model: nn.Module, inputs: Callable[[int], Any]) -> tuple[Any, bool]:
    """The program, and whether it takes any number of samples."""
    arguments, named = _arguments(inputs(SAMPLES))
    try:
        shapes = _any_batch(arguments, named)
        program = torch.export.export(model, arguments, named, dynamic_shapes=shapes)
        _outputs(program.module(), inputs(OTHER))
        return program, True
    except BaseException as error:  # its code may ask for the size
        raise_interrupt(error)
    return torch.export.export(model, arguments, named), False


def _arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, dict):
        return (), batch
    return (batch if isinstance(batch, tuple) else (batch,)), {}


def _any_batch(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The first axis of every tensor has a size that the program does not fix."""

    def axes(value: Any) -> Any:
        return {0: torch.export.Dim.AUTO} if isinstance(value, Tensor) and value.dim() else None

    return {key: axes(value) for key, value in named.items()} if named else tuple(map(axes, arguments))


def _outputs(model: nn.Module, batch: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return [leaf.clone() for leaf in tree_leaves(call(model, batch)) if isinstance(leaf, Tensor)]


def _compared(
    file: Path, inputs: Callable[[int], Any], expected: dict[int, list[Tensor]], any_batch: bool
) -> Proof:
    with file.open("rb") as content:
        program = torch.export.load(content).module()
    sizes = (SAMPLES, OTHER) if any_batch else (SAMPLES,)
    largest = 0.0
    for samples in sizes:
        found = _outputs(program, inputs(samples))
        if [(tensor.shape, tensor.dtype) for tensor in found] != [
            (t.shape, t.dtype) for t in expected[samples]
        ]:
            return Proof(_NAME, False, None, "the loaded program's outputs have other shapes or types")
        for own, other in zip(expected[samples], found, strict=True):
            largest = max(largest, _ulps(own, other))
    batch = "any batch" if any_batch else f"batches of {SAMPLES} alone"
    says = (
        f"ulp of the largest entry between the outputs of the loaded program and the network's, at batch "
        f"{' and '.join(map(str, sizes))}; allowed: {_ULPS}; it takes {batch}"
    )
    return Proof(_NAME, largest <= _ULPS, largest, says)


def _ulps(own: Tensor, other: Tensor) -> float:
    """The largest difference in roundings of the largest entry; 0 where both are equal, also in their NaN."""
    if torch.equal(own.nan_to_num(), other.nan_to_num()):
        return 0.0
    if not own.is_floating_point():
        return float("inf")
    gap = (own.double() - other.double()).abs().max()
    return float(gap / (own.double().abs().max() * torch.finfo(own.dtype).eps))
