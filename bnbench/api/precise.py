"""`bnbench.precise_statistics`: the statistics of data in the place of a network's running ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import choice_of

if TYPE_CHECKING:
    from torch import nn


def precise_statistics(model: nn.Module, data: Any, *, definition: str = "batch") -> tuple[str, ...]:
    """Give every layer with running statistics the mean and the total variance of its inputs over data.

    Wu & Johnson 2021 (arXiv 2105.07576, section 3). The variance is E[var] + Var[mean], merged in float64, each batch
    weighted by its values, whatever the sizes of batches. Dropout and other noise are off. Layers in eval mode and
    frozen ones keep what they have, and every flag stays as it is, also after an exception, which
    leaves the old statistics in place. `num_batches_tracked` does not change.

    Parameters
    ----------
    model
        Any module whose layers keep `running_mean` and `running_var`.
    data
        A DataLoader, an iterable of batches, `inputs` or `(inputs, targets)`, or a tensor (samples, ...). All of it is
        used. An iterator can be read only once, which is enough for "batch".
    definition
        "batch": in one pass, in which each layer normalizes by the statistics of the batch, as in training. "layers":
        in a pass a layer, in which the layers before it have their precise statistics already, as in inference.

    Returns
    -------
    tuple
        The names of the layers that got new statistics.

    Raises
    ------
    BnbenchError
        The data holds no batch, or the network fails on it.

    Examples
    --------
    >>> import bnbench, torch
    >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    >>> bnbench.precise_statistics(model, torch.arange(12.0).reshape(4, 3))
    ('0',)
    >>> model[0].running_mean
    tensor([4.5000, 5.5000, 6.5000])
    """
    import torch

    from bnbench.network.doctor.data import Stream
    from bnbench.network.doctor.passes import Passes, tracked_layers
    from bnbench.network.ways import write_statistics

    choice_of("definition", definition, ("batch", "layers"))
    batches = Stream(data)
    layers = tracked_layers(model, batches.first).layers
    passes = Passes(model, batches, layers)
    found = passes.precise("layers" if definition == "layers" else "batch")
    with torch.no_grad():
        for layer in layers:
            if layer.name in found:
                write_statistics(passes.modules[layer.name], layer, *found[layer.name])
    return tuple(layer.name for layer in layers if layer.name in found)
