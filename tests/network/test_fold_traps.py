"""Each trap: what became of each norm, and the output in float64 against the network as it was."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

import bnbench
from bnbench.network.fold.precision import InFloat64
from tests.network.fold_traps import TRAPS, Trap


def inputs_of(trap: Trap, samples: int, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(samples, *trap.shape, generator=draw, dtype=torch.float64)


# torch's remark on the asymmetric padding of a trap
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", TRAPS)
def test_trap(name):
    trap = TRAPS[name]
    model = trap.build()
    lazy = any(map(torch.nn.parameter.is_lazy, model.parameters()))
    dtype = next(model.parameters()).dtype
    state = {} if lazy else {key: value.clone() for key, value in model.state_dict().items()}

    folding = bnbench.fold(model, inputs=lambda n: inputs_of(trap, n).to(dtype))

    assert {site.name for site in folding.sites} == set(trap.expected)
    for site in folding.sites:
        expected = trap.expected[site.name]
        assert (site.action, site.details.get("side", "")) == (expected.action, expected.side), site
        assert tuple(site.details.get("into", ())) == expected.into
        assert expected.reason in site.reason, site.reason
        assert bool(site.reason) == (site.action != "folded")
    assert folding.passed, folding.proofs
    for key, value in state.items():
        assert torch.equal(value, model.state_dict()[key])
    # the oracle: the network as it was, in float64, on inputs that the fold never saw
    if folding.folded and not lazy:
        x = inputs_of(trap, 3, seed=9) * 3 + 1
        truth = deepcopy(model).double()
        with torch.no_grad(), InFloat64():
            expected_output = truth(x)
            output = deepcopy(folding.model).double()(x)
        assert (output - expected_output).abs().max() <= 1e-5 * expected_output.abs().max()


def test_there_are_enough():
    assert len(TRAPS) >= 40
