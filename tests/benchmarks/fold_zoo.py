"""Networks of torchvision and timm through `bnbench fold`: how many norms go where, and what blocks the others.

    python tests/benchmarks/fold_zoo.py            # prints the table of docs/fold.md
    python tests/benchmarks/fold_zoo.py --write    # writes it there
    python tests/benchmarks/fold_zoo.py resnet18 timm:resnet26d    # these alone

Statistics, gammas and betas are random, so that no fold is right by chance.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.insert(0, str(Path(__file__).parents[2]))

from bnbench.base.fold_record import WHOLE
from bnbench.base.network_records import SiteRecord
from bnbench.network.fold.folding import FoldOptions, fold_network
from bnbench.network.fold.inputs import RANDOM
from bnbench.network.source import LoadedModel, Wanted, load_model
from bnbench.reports.network.fold import general_reason
from tests.network.fold_layers import is_norm

DOCUMENT = Path(__file__).parents[2] / "docs" / "fold.md"
START, END = "<!-- python tests/benchmarks/fold_zoo.py --write -->", "<!-- end of the networks -->"
#: At this side the comparison in float32 has 4 inputs, and not 64.
LARGE = 200
#: The word of each network, and the side of its images where it takes no smaller one.
NETWORKS: dict[str, int] = {
    "torchvision:resnet18": 64,
    "torchvision:resnet50": 64,
    "torchvision:densenet121": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:mobilenet_v3_small": 64,
    "torchvision:mnasnet1_0": 64,
    "torchvision:shufflenet_v2_x1_0": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:googlenet": 64,
    "torchvision:inception_v3": 96,
    "torchvision:vgg11_bn": 64,
    "torchvision:maxvit_t": 224,
    "torchvision:convnext_tiny": 64,
    "torchvision:vit_b_16,image_size=64": 64,
    "torchvision:swin_t": 64,
    "timm:resnet26d": 64,
    "timm:efficientnet_lite0": 64,
    "timm:repvgg_a0": 64,
    "timm:ghostnet_100": 64,
    "timm:tf_efficientnet_b0": 64,
    "timm:levit_128s": 224,
    "timm:mobilevit_xxs": 64,
    "timm:vit_tiny_patch16_224": 224,
    "timm:mixer_s32_224": 224,
    "timm:poolformer_s12": 64,
}


def randomised(model: nn.Module) -> nn.Module:
    """Statistics, gammas and betas near those of a trained network."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if mean is not None and var is not None:
                mean.copy_(0.3 * torch.randn(mean.shape, generator=draw))
                var.copy_(0.5 + torch.rand(var.shape, generator=draw))
            if (
                isinstance(module, nn.Linear) and not module.weight.any()
            ):  # a head that starts at zero shows nothing
                module.weight.copy_(torch.randn(module.weight.shape, generator=draw))
            if is_norm(module):
                for name, low in (("weight", 0.5), ("bias", -0.5)):
                    value = getattr(module, name, None)
                    if value is not None:
                        value.copy_(low + torch.rand(value.shape, generator=draw))
    return model


def _load(word: str, side: int) -> LoadedModel:
    arguments = {"init_weights": False} if word.endswith(("googlenet", "inception_v3")) else {}
    return load_model(word, Wanted(input=f"3x{side}x{side}", options=arguments))


def row(word: str, side: int) -> tuple[str, str]:
    """A line of the table; and for the terminal, how long it took and what failed."""
    start = time.perf_counter()
    loaded = _load(word, side)
    options = FoldOptions(inputs=RANDOM if side < LARGE else 4)
    folding = fold_network(randomised(loaded.model), loaded.inputs, options)
    whole = [site for site in folding.sites if site.kind in WHOLE]
    others = [site for site in folding.sites if site.kind not in WHOLE]
    sides = Counter(site.details.get("side") for site in whole if site.action == "folded")
    gaps = {proof.name: proof.value for proof in folding.proofs}
    cells = (
        f"{word} at {side}",
        _share(whole),
        _rival(loaded.model) if whole else "-",
        f"{sides['before']}, {sides['after']}" if whole else "-",
        _share(others),
        f"{gaps['float64']:.0e}",
        _reasons([site for site in folding.sites if site.action != "folded"]),
    )
    failed = [proof.name for proof in folding.proofs if proof.passed is False]
    return f"| {' | '.join(cells)} |", f"{time.perf_counter() - start:.0f} s {failed or ''}"


def _rival(model: nn.Module) -> str:
    """What `torch.fx.experimental.optimization.fuse` folds, of the batch norms that inference calls."""
    from torch.fx import symbolic_trace
    from torch.fx.experimental.optimization import fuse

    model.eval()
    try:
        number, left = (_called(graph) for graph in (symbolic_trace(model), fuse(model)))
    except Exception as error:
        return f"raises {type(error).__name__}"
    return f"{number - left} of {number}"


def _called(network: nn.Module) -> int:
    """The calls of batch norms in a traced network, as modules and as functions."""
    assert isinstance(network, GraphModule)
    modules = dict(network.named_modules())
    found = 0
    for node in network.graph.nodes:
        found += node.op == "call_module" and isinstance(modules[node.target], _BatchNorm)
        found += node.op == "call_function" and "batch_norm" in getattr(node.target, "__name__", "")
    return found


def _share(sites: list[SiteRecord]) -> str:
    return f"{sum(site.action == 'folded' for site in sites)} of {len(sites)}" if sites else "-"


def _reasons(sites: list[SiteRecord]) -> str:
    counts = Counter(re.sub(r"\|", "/", general_reason(site)) for site in sites)
    return "; ".join(f"{number} × {reason}" for reason, number in counts.most_common(4)) or "-"


HEAD = (
    *("network", "batch norms folded", "by `torch.fx` `fuse`", "before, after", "gammas folded"),
    *("float64 difference", "what blocks the others"),
)


def written(text: str) -> dict[str, str]:
    """The lines of the table that the page has, by network."""
    lines = text[text.index(START) + len(START) : text.index(END)].strip().splitlines()
    return {line.split("|")[1].strip(): line for line in lines[2:]}


def _with_rival(line: str) -> str:
    """A line with that column measured again."""
    cells = [cell.strip() for cell in line.strip("| \n").split(" | ")]
    word, _, side = cells[0].rpartition(" at ")
    has_batch = cells[1] != "-"
    rival = _rival(_load(word, int(side)).model) if has_batch else "-"
    rest = cells[2:] if len(cells) < len(HEAD) else cells[3:]
    return f"| {' | '.join((*cells[:2], rival, *rest))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="with words: their lines alone, among those that are there"
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--rival", action="store_true", help="measure the column of torch.fx alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    text = DOCUMENT.read_text()
    lines = written(text) if arguments.words else {}
    if arguments.rival:
        lines = {name: _with_rival(line) for name, line in written(text).items()}
    for word in () if arguments.rival else arguments.words or NETWORKS:
        line, note = row(word, NETWORKS.get(word, 64))
        lines[line.split("|")[1].strip()] = line
        print(line, note, file=sys.stderr, flush=True)
    order = {f"{word} at {side}": number for number, (word, side) in enumerate(NETWORKS.items())}
    chosen = sorted(lines, key=lambda name: order.get(name, len(order)))
    table = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}", *(lines[name] for name in chosen)]
    if arguments.write:
        start, end = text.index(START) + len(START), text.index(END)
        DOCUMENT.write_text(f"{text[:start]}\n" + "\n".join(table) + f"\n{text[end:]}")
    else:
        print("\n".join(table))


if __name__ == "__main__":
    main()
