"""The models. To add one: one file here, with one factory registered by name.

A factory is `factory(input_shape, num_classes, norm, **options) -> torch.nn.Module`:
    input_shape: (channels, height, width). num_classes: logits per sample.
    Of text and sequences it is `factory(sizes, norm, **options)`, sizes: a `bnbench.data.Sizes`. The task decides
    (`Task.network_arguments`).
    norm: a `bnbench.models.layers.NormLayer`, to be passed on to the blocks of `layers.py`.
    keyword-only parameters: the options that a study may set (`model: {name: mlp, hidden: [64]}`).
Facts given to `register`: see `ModelFacts`.
The module takes (N, channels, height, width) and returns logits (N, num_classes).
"""

from dataclasses import dataclass
from typing import Literal

from bnbench.base.registry import Registry


@dataclass(frozen=True)
class ModelFacts:
    """Facts on a model that are needed before it is built.

    init: how the weights start. "torch", "he" or "glorot": every layer is drawn again from a stream of the
        seed and the layer's name, so that layers that variants share start equal (what the factory set is
        overwritten); "normal": the same with N(0, std²); "own": the factory's weights stay, and pairing them is the
        factory's care.
    std: of the initial weights, where init is "normal".
    tasks: those that it is for; a task may also name other models that fit. (): any task.
    whole: the factory is `factory(wanted, **options)`, of a `bnbench.network.source.Wanted`, and makes a network with
        normalizers of its own, which `bnbench.engine.own` replaces; it has the options `replace` and `image_size`.
    package: the installed package that it comes from, "" for bnbench's own.
    """

    init: Literal["torch", "he", "glorot", "normal", "own"] = "torch"
    std: float | None = None
    tasks: tuple[str, ...] = ()
    whole: bool = False
    package: str = ""


models = Registry("model", __name__, ModelFacts)
