"""The studies of the campaign of kills: engines, normalizers, optimizers, tasks and probes, each with its own state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A study that is killed. weight: how often it is chosen.

    workers: whether it is long enough for worker processes, so that --jobs 2 starts some. python: of the environment
    that it needs, "" for this one. words: of the command, beside the study.
    """

    name: str
    covers: str
    study: dict[str, Any]
    weight: int = 2
    workers: bool = False
    keras: bool = False
    words: tuple[str, ...] = field(default=())


_SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}
_ADAM = {"name": "adam", "lr": 0.003}
_MLP = {"name": "mlp", "hidden": [48, 48]}

CASES = (
    Case(
        "stacked",
        "stack of 4 seeds; batch, batch_custom, layer; SGD with momentum; cosine; targets",
        {
            "dataset": "digits", "model": _MLP, "optimizer": _SGD, "schedule": {"name": "cosine"}, "batch_size": 64,
            "epochs": 20, "evaluate_every": 100, "seeds": 4,
            "variants": {
                "batch": {"norm": "batch"}, "batch_custom": {"norm": "batch_custom"}, "layer": {"norm": "layer"},
            },
            "target": {"metric": "val_accuracy", "value": 0.9},
        },
        weight=4,
    ),
    Case(
        "probes",
        "stack of 2 seeds with probes; renorm, ghost; AdamW; step schedule; clipped gradients",
        {
            "dataset": "digits", "model": _MLP, "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.01},
            "schedule": {"name": "step", "milestones": [5, 9], "gamma": 0.3}, "batch_size": 64, "epochs": 12,
            "clip_norm": 1.0, "probe": True, "seeds": 2,
            "variants": {
                "renorm": {"norm": {"name": "renorm", "relax_from": 100, "r_relaxed_at": 600, "d_relaxed_at": 400}},
                "ghost": {"norm": {"name": "ghost", "ghost_size": 16}},
            },
        },
    ),
    Case(
        "sequential",
        "convolutions; batch_noisy, batch_virtual, power; Adam; random crops and flips",
        {
            "dataset": "digits", "model": {"name": "cnn", "channels": [8, 16]}, "optimizer": _ADAM,
            "batch_size": 64, "steps": 120, "evaluate_every": 60, "augment": "crop_flip", "seeds": 1,
            "variants": {
                "batch_noisy": {"norm": "batch_noisy"}, "batch_virtual": {"norm": "batch_virtual"},
                "power": {"norm": "power"},
            },
        },
        weight=3,
    ),
    Case(
        "dropout",
        "dropout from the global streams, one run after the other; lp, batch_group; a run that diverges",
        {
            "dataset": "digits", "model": {**_MLP, "dropout": {"p": 0.3, "place": "after_norm"}}, "optimizer": _SGD,
            "batch_size": 32, "epochs": 8, "seeds": 2,
            "variants": {
                "lp": {"norm": {"name": "lp", "p": 1}}, "batch_group": {"norm": "batch_group"},
                "diverges": {"norm": "none", "optimizer.lr": 60.0},
            },
        },
    ),
    Case(
        "text",
        "transformer on text; layer, rms, dyt; AdamW; warm-up",
        {
            "dataset": {"name": "stdlib_text", "window": 32},
            "model": {"name": "transformer", "depth": 1, "width": 32, "heads": 2},
            "optimizer": {"name": "adamw", "lr": 0.008}, "schedule": {"name": "cosine", "warmup_epochs": 0.002},
            "batch_size": 16, "steps": 120, "evaluate_every": 60, "max_eval_samples": 200, "seeds": 1,
            "variants": {"layer": {"norm": "layer"}, "rms": {"norm": "rms"}, "dyt": {"norm": "dyt"}},
        },
    ),
    Case(
        "gan",
        "two networks and two optimizers; batch in the generator",
        {
            "dataset": "digits", "task": "gan", "model": {"name": "dcgan", "width": 8},
            "optimizer": {"name": "adam", "lr": 0.001, "betas": [0.5, 0.999]}, "batch_size": 64, "steps": 100,
            "evaluate_every": 50, "seeds": 1, "max_eval_samples": 200,
            "variants": {"batch_g": {"norm": "batch", "model": {"norm_in": "generator"}}, "none": {"norm": "none"}},
        },
    ),
    Case(
        "denoising",
        "diffusion with a U-Net; instance, weight_standardization; noise drawn for each batch",
        {
            "dataset": "digits", "task": {"name": "denoising", "steps": 50},
            "model": {"name": "unet", "width": 8, "depth": 1}, "optimizer": _ADAM,
            "batch_size": 64, "steps": 80, "evaluate_every": 40, "max_eval_samples": 200, "seeds": 1,
            "variants": {"instance": {"norm": "instance"}, "ws": {"norm": "weight_standardization"}},
        },
    ),
    Case(
        "regression",
        "regression, one variant in bf16; seeds that differ in their split; batch_mean_only; the norm alone learns",
        {
            "dataset": "diabetes", "task": "tabular_regression", "model": _MLP, "optimizer": _ADAM,
            "batch_size": 32, "epochs": 25, "seeds": 2, "vary": ["split", "init", "order"],
            "variants": {
                "batch_mean_only": {"norm": "batch_mean_only"},
                "bf16": {"norm": "batch", "precision": "bf16"},
                "norm_alone": {"norm": "batch", "train": "norm"},
            },
        },
    ),
    Case(
        "auto",
        "seeds: auto with its looks",
        {
            "dataset": "digits", "model": _MLP, "optimizer": _SGD, "batch_size": 64, "epochs": 12,
            "seeds": {"auto": True, "max": 6}, "variants": {"none": {"norm": "none"}, "rms": {"norm": "rms"}},
            "margin": {"metric": "test_accuracy", "value": 0.2},
        },
    ),
    Case(
        "workers",
        "two worker processes: stacks of 2 seeds; batch, rms",
        {
            "dataset": "digits", "model": {"name": "mlp", "hidden": [96, 96, 96]}, "optimizer": _SGD, "batch_size": 64,
            "epochs": 30, "seeds": 4, "variants": {"batch": {"norm": "batch"}, "rms": {"norm": "rms"}},
        },
        weight=2,
        workers=True,
    ),
    Case(
        "compiled",
        "torch.compile; batch; Adam",
        {
            "dataset": "digits", "engine": "compiled", "model": _MLP, "optimizer": _ADAM,
            "batch_size": 64, "epochs": 60, "seeds": 1, "variants": {"batch": {"norm": "batch"}},
        },
        weight=1,
    ),
    Case(
        "keras",
        "Keras: batch_keras; Adam of Keras",
        {
            "dataset": "digits", "framework": "keras", "normalize": "unit", "model": _MLP,
            "optimizer": {"name": "adam_keras", "lr": 0.003}, "batch_size": 64, "epochs": 60, "seeds": 1,
            "variants": {"batch": {"norm": "batch_keras"}, "none": {"norm": "none"}},
        },
        weight=1,
        keras=True,
    ),
)  # fmt: skip
