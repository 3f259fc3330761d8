"""The largest eigenvalue of the loss's Hessian, by power iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp

from bnbench.base.seeding import generator
from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row
from bnbench.probes.trial import NETWORK, Trial

#: The residual ‖Hv - λv‖ at which an eigenvalue counts as found, as a share of |λ|, and the most products Hv for one.
TOLERANCE, MOST_PRODUCTS = 0.01, 100
#: Products for both modes together that MLPs on MNIST and CNNs on CIFAR-10 needed, for the estimate of the cost.
TYPICAL_PRODUCTS = 60

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Eigenvalue:
    """What the iteration has come to. residual: ‖Hv - λv‖ / |λ|, of the unit vector v; products: how many Hv."""

    value: float
    residual: float
    products: int

    @property
    def converged(self) -> bool:
        """Whether the residual is within the tolerance."""
        return self.residual <= TOLERANCE


@probes.register("hessian", costly=True, passes=lambda layers: 2 * TYPICAL_PRODUCTS)
def hessian(inside: Inside) -> Iterator[Row]:
    """The eigenvalue of largest magnitude and the largest one, in train and in eval mode.

    H is the Hessian of the objective of the batch for all trainable parameters, in float32. Power iteration
    v <- Hv / ‖Hv‖ from a random unit vector, the same for every run, step and mode, ends where
    ‖Hv - λv‖ <= 0.01 |λ| with λ = vᵀHv: H is symmetric, so then an eigenvalue lies within 1 % of λ (where the
    largest ones are closer together than 2 %, λ may be as far below the largest). Where λ is negative, a
    second iteration with H - λI finds the largest eigenvalue. After 100 products the λ at hand is given, and said
    not to have converged; it is never above the largest eigenvalue. Products Hv by torch.func.
    In train mode batch norm normalizes with the batch's statistics, and H is that of the loss through them; in
    eval mode with the running ones. Of the network as a whole, with "_train" and "_eval" behind the name:

        sharpness            the largest eigenvalue
        hessian_magnitude    the eigenvalue of largest magnitude, with its sign
        hessian_products     products Hv of both iterations
        hessian_converged    1 where both iterations converged, else 0
    """
    trial = Trial(inside)
    for mode in ("train", "eval"):
        trial.private.model.train(mode == "train")
        strongest, top = extreme_eigenvalues(_product(trial, inside), _start(trial))
        products = strongest.products + (top.products if top is not strongest else 0)
        yield Row(NETWORK, f"sharpness_{mode}", top.value)
        yield Row(NETWORK, f"hessian_magnitude_{mode}", strongest.value)
        yield Row(NETWORK, f"hessian_products_{mode}", products)
        yield Row(NETWORK, f"hessian_converged_{mode}", float(strongest.converged and top.converged))


def extreme_eigenvalues(product: Product, start: Tensor) -> tuple[Eigenvalue, Eigenvalue]:
    """The eigenvalue of largest magnitude of a symmetric H, and its largest one: the same where that is positive.

    product: v -> Hv. start: a vector that is no multiple of an eigenvector's orthogonal complement.
    """
    strongest = _iterate(product, start, 0.0)
    if not strongest.value < 0:
        return strongest, strongest
    return strongest, _iterate(product, start, strongest.value)


def _iterate(product: Product, start: Tensor, shift: float) -> Eigenvalue:
    """Power iteration with H - shift I."""
    v = start / torch.linalg.vector_norm(start)
    value, residual, products = math.nan, math.inf, 0
    while products < MOST_PRODUCTS:
        hv, products = product(v), products + 1
        value = float(v @ hv)
        left = float(torch.linalg.vector_norm(hv - value * v))
        residual = left / abs(value) if value else (0.0 if left == 0 else math.inf)
        moved = hv - shift * v
        size = float(torch.linalg.vector_norm(moved))
        if residual <= TOLERANCE or size == 0 or not math.isfinite(size):
            break
        v = moved / size
    return Eigenvalue(value if math.isfinite(value) else math.nan, residual, products)


def _start(trial: Trial) -> Tensor:
    """The first vector, from a stream of its own."""
    size = sum(value.numel() for value in trial.start.values())
    device = next(iter(trial.start.values())).device
    return torch.randn(size, generator=generator(0, "hessian")).to(device)


def _product(trial: Trial, inside: Inside) -> Product:
    """V -> Hv at the weights of this step: reverse mode twice, which every layer knows that can be trained.

    The loss and its gradient are computed once; each product is one more backward pass, of vᵀH = (Hv)ᵀ.
    """
    model, batch, names = trial.private.model, trial.batch, list(trial.start)
    shapes = [value.shape for value in trial.start.values()]
    sizes = [value.numel() for value in trial.start.values()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def loss(flat: Tensor) -> Tensor:
        parts = zip(torch.split(flat, sizes), shapes, strict=True)
        parameters = dict(zip(names, (part.view(shape) for part, shape in parts), strict=True))
        # copies: a layer may move its running statistics in place, which a transform forbids for tensors from outside
        own = {name: buffer.clone() for name, buffer in buffers.items()}
        return inside.objective(functional_call(model, {**parameters, **own}, (batch.inputs,)), batch.targets)

    weights = torch.cat([value.flatten() for value in trial.start.values()])
    with trial.same_state():
        product = vjp(grad(loss), weights)[1]

    def hv(v: Tensor) -> Tensor:
        (result,) = product(v)
        return result.detach()  # type: ignore[no-any-return]

    return hv
