"""The options that `convert`, `doctor` and `fold` share: a network, and what it is built with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnbench.cli.options import user_path

if TYPE_CHECKING:
    from bnbench.network.source import LoadedModel, Wanted

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="FILE.py:NAME (a class, a function that returns a network, or a network), torchvision:ARCH, timm:ARCH "
        "or hf:CONFIG, with random weights. Options behind commas: hf:LlamaConfig,hidden_size=64.",
        show_default=False,
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="Of one sample: 3x64x64 (an image), 30 (features), tokens:16 (a text). Default: what its first layer "
        "takes, images at 64 x 64.",
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option("--num-classes", min=1, help="Given to the network, where its signature asks for it."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the initial weights.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        parser=user_path,
        metavar="FILE",
        help="Weights to load first: .safetensors, or what torch.save wrote of a state_dict.",
    ),
]


@dataclass(frozen=True)
class NetworkFiles:
    """What `convert` and `fold` write."""

    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            parser=user_path,
            metavar="X",
            help="Write X.safetensors and X.json, for bnbench.rebuild(MODEL, X).",
        ),
    ] = None
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            parser=user_path,
            metavar="X.pt2",
            help="Write the network by torch.export, load it again and compare.",
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False


@dataclass(frozen=True)
class Building:
    """What a network is built with."""

    input: Input = None
    num_classes: NumClasses = None
    seed: Seed = 0

    def wanted(self, of_data: Wanted | None = None) -> Wanted:
        """The same, as `load_model` takes it. of_data: what the data asks for, where there is some."""
        from bnbench.network.source import Wanted

        known = of_data or Wanted()
        classes = self.num_classes or known.num_classes
        return replace(known, num_classes=classes, input=self.input or known.input, seed=self.seed)

    def load(self, word: str) -> LoadedModel:
        """The network that a MODEL word names. Raises BnbenchError."""
        from bnbench.network.source import load_model

        return load_model(word, self.wanted())
