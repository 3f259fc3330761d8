"""The largest eigenvalue of the Hessian, against a quadratic and torch.func.hessian in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian as one_by_one
from torch.func import functional_call
from torch.func import hessian as full_hessian

from bnbench.norms.batch_norm import BatchNorm1d
from bnbench.probes.hessian import MOST_PRODUCTS, TOLERANCE, extreme_eigenvalues, hessian
from bnbench.probes.inside import Inside
from bnbench.probes.trial import NETWORK
from tests.probes.insides import inside_of, values

D, K, N = 4, 3, 12


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_of_a_quadratic() -> None:
    """H of ‖W Xᵀ - Yᵀ‖²/(NK) is 2/(NK) XᵀX for each output: its eigenvalues are singular values of X, squared."""
    x, y = draw(0, N, D), draw(1, N, K)
    measured = values(hessian(inside_of(nn.Linear(D, K, bias=False), nn.MSELoss(), [(x, y)] * 2)))
    largest = 2 / y.numel() * float(torch.linalg.svdvals(x.double())[0]) ** 2
    for mode in ("train", "eval"):
        assert measured[NETWORK, f"sharpness_{mode}"] == pytest.approx(largest, rel=TOLERANCE)
        assert measured[NETWORK, f"hessian_converged_{mode}"] == 1


def small_network(norm: nn.Module) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(D, 5), norm, nn.Tanh(), nn.Linear(5, K))
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(1.5 * draw(seed, *parameter.shape))
        model.train()
        model(3 * draw(9, 50, D))  # running statistics that are not those of the batch
    return model


def eigenvalues(inside: Inside, training: bool, row_by_row: bool) -> Tensor:
    """All of them, in float64, by torch.func.hessian or, row by row, torch.autograd's; and LAPACK."""
    model = copy.deepcopy(inside.model).double().train(training)
    named = {name: parameter.detach() for name, parameter in model.named_parameters()}
    sizes = [parameter.numel() for parameter in named.values()]
    inputs = inside.inputs.double()

    def loss(flat: Tensor) -> Tensor:
        parts = zip(torch.split(flat, sizes), named.values(), strict=True)
        parameters = dict(zip(named, (part.view_as(like) for part, like in parts), strict=True))
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return inside.objective(functional_call(model, {**parameters, **buffers}, (inputs,)), inside.targets)

    weights = torch.cat([parameter.flatten() for parameter in named.values()])
    matrix = one_by_one(loss, weights) if row_by_row else full_hessian(loss)(weights)
    torch.testing.assert_close(matrix, matrix.T)  # else the oracle is none
    return torch.linalg.eigvalsh(matrix)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # of torch.func.hessian
@pytest.mark.parametrize("make", [nn.BatchNorm1d, BatchNorm1d, nn.LayerNorm, nn.Identity])
def test_of_a_small_network_in_both_modes(make: type[nn.Module]) -> None:
    """Torch's batch norm and bnbench's own move their running statistics in place, inside the transforms.

    Of torch's own norms torch.func.hessian is no oracle: under vmap the second derivative of their kernels comes
    out asymmetric (torch 2.14), and off by 1 % to 4 % from finite differences.
    """
    model = small_network(make(5))
    batch = draw(5, N, D), torch.arange(N) % K
    inside = inside_of(model, nn.CrossEntropyLoss(), [batch] * 2)
    before = copy.deepcopy(model.state_dict())
    measured = values(hessian(inside))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    for mode in ("train", "eval"):
        exact = eigenvalues(inside, mode == "train", make in (nn.BatchNorm1d, nn.LayerNorm))
        assert measured[NETWORK, f"hessian_converged_{mode}"] == 1
        assert measured[NETWORK, f"sharpness_{mode}"] == pytest.approx(float(exact[-1]), rel=TOLERANCE)
        strongest = float(exact[exact.abs().argmax()])
        assert measured[NETWORK, f"hessian_magnitude_{mode}"] == pytest.approx(strongest, rel=TOLERANCE)
    differs = make in (nn.BatchNorm1d, BatchNorm1d)
    both = [measured[NETWORK, f"sharpness_{mode}"] for mode in ("train", "eval")]
    assert (abs(math.log(both[0] / both[1])) > 0.1) == differs


def test_the_largest_is_found_beside_a_stronger_negative_one() -> None:
    matrix = torch.diag(torch.tensor([-5.0, 2.0, 1.0, 0.5]))
    strongest, top = extreme_eigenvalues(lambda v: matrix @ v, draw(0, 4))
    assert (strongest.value, top.value) == pytest.approx((-5, 2), rel=TOLERANCE)
    assert strongest.converged
    assert top.converged


def test_two_of_the_same_magnitude_are_said_not_to_have_converged() -> None:
    """Power iteration turns between the two for ever; its number is not presented as an eigenvalue."""
    matrix = torch.diag(torch.tensor([3.0, -3.0, 1.0]))
    strongest, _ = extreme_eigenvalues(lambda v: matrix @ v, torch.tensor([1.0, 0.5, 0.2]))
    assert not strongest.converged
    assert strongest.products == MOST_PRODUCTS
    assert strongest.value <= 3


def test_a_zero_matrix_and_one_that_is_not_finite() -> None:
    zero, _ = extreme_eigenvalues(torch.zeros_like, draw(0, 3))
    assert zero.value == 0
    assert zero.converged
    nan, top = extreme_eigenvalues(lambda v: v * math.nan, draw(0, 3))
    assert math.isnan(nan.value)
    assert not nan.converged
    assert math.isnan(top.value)
    assert nan.products == 1


def test_the_same_numbers_each_time_and_no_draw_from_global_streams() -> None:
    batch = draw(5, N, D), torch.arange(N) % K
    inside = inside_of(small_network(nn.BatchNorm1d(5)), nn.CrossEntropyLoss(), [batch] * 2)
    before = torch.get_rng_state()
    assert values(hessian(inside)) == values(hessian(inside))
    assert torch.equal(torch.get_rng_state(), before)
