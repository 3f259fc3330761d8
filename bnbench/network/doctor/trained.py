"""Whether a network was trained: then statistics that were never updated are a finding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from bnbench.network.sites.norm_site import NormSite


def was_trained(sites: Iterable[NormSite], optimizers: Iterable[Optimizer] = ()) -> bool:
    """Whether something shows training: counted batches, moved statistics, gradients, an optimizer's state.

    Values of gamma and beta show nothing: some networks start them at random (RepVGG).
    """
    sites = [site for site in sites if site.module is not None]
    return any(map(_shows_training, sites)) or any(optimizer.state for optimizer in optimizers)


def _shows_training(site: NormSite) -> bool:
    if has_counted(site) or (has_statistics(site) and not is_initial(site)):
        return True
    parameters = [] if site.module is None else list(site.module.parameters())
    return any(one.grad is not None for one in parameters)


def has_own_beta(site: NormSite) -> bool:
    """Whether its betas differ from each other, as after training, or in a network that starts them at random."""
    beta = tensor_of(site, site.behaviour.beta)
    return beta is not None and beta.numel() > 1 and bool((beta != beta.flatten()[0]).any())


def has_statistics(site: NormSite) -> bool:
    """Whether inference uses a running mean and a running variance that it holds."""
    return site.behaviour.running and running_mean(site) is not None and running_var(site) is not None


def running_mean(site: NormSite) -> Tensor | None:
    """Its running mean, whatever it is called; None without one."""
    return _buffer(site, site.behaviour.mean or "running_mean")


def running_var(site: NormSite) -> Tensor | None:
    """Its running variance, whatever it is called; None without one."""
    return _buffer(site, site.behaviour.var or "running_var")


def _buffer(site: NormSite, name: str) -> Tensor | None:
    found = site.state.get(name)
    return found if found is not None and found.is_floating_point() else None


def is_initial(site: NormSite) -> bool:
    """Whether its running mean is 0 and its running variance 1, exactly."""
    mean, variance = running_mean(site), running_var(site)
    if mean is None or variance is None or mean.is_meta:
        return True
    return not bool(mean.any()) and bool((variance == 1).all())


def has_counted(site: NormSite) -> bool:
    """Whether it counted a batch."""
    return batches_of(site) > 0


def batches_of(site: NormSite) -> int:
    """The number of batches that it counted; 0 where it counts none."""
    count = site.state.get("num_batches_tracked")
    return 0 if count is None or count.is_meta else int(count)


def tensor_of(site: NormSite, name: str) -> Tensor | None:
    """A parameter or buffer of the site's module, in float64; None where it has none of that name."""
    if not name or site.module is None:
        return None
    found = dict(site.module.named_parameters()) | dict(site.module.named_buffers())
    value = found.get(name)
    return None if value is None or value.is_meta else value.detach().to(torch.float64)


def gamma_of(site: NormSite) -> Tensor | None:
    """What its output is multiplied by, in float64; None without a gamma."""
    gamma = tensor_of(site, site.behaviour.gamma)
    return None if gamma is None else gamma + site.behaviour.gamma_offset


def eps_of(site: NormSite) -> float:
    """Its eps; torch's, where none was found."""
    return 1e-5 if site.behaviour.eps is None else site.behaviour.eps
