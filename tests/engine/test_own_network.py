"""A network that was not written for bnbench in a study.

Oracles: the same network built and trained by a plain loop; bnbench's own mlp; the bits of what variants share.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnbench.api.plugins import forget_plugins, known_names
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.seeding import derive
from bnbench.data import Sizes
from bnbench.data.batches import epoch_order
from bnbench.engine.build import build_model
from bnbench.engine.device import all_threads
from bnbench.engine.library import Library
from bnbench.engine.own import said_of
from bnbench.engine.rehearsal.rehearse import rehearse
from bnbench.study import Settings, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import make_plan
from tests.training import CPU, execute

FILE = Path(__file__).parents[1] / "network" / "own_networks.py"
DIGITS = Sizes((1, 8, 8), 10)
COMMON = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 32, "epochs": 1}


@pytest.fixture
def own(tmp_path: Path):
    """From a network's name and changes to a study, to that study; the user's names are forgotten at the end."""
    file = shutil.copy(FILE, tmp_path / "nets.py")

    def study(name: str, norms: tuple[str, ...] = ("none", "batch", "group"), **changes: Any):
        words = [] if "model" in changes else [f"model={file}:{name}"]
        names = known_names((), words)
        given = {"dataset": "digits", "max_train_samples": 128, "max_eval_samples": 64, "seeds": 1} | COMMON
        variants = {norm: {"norm": norm} for norm in norms}
        return load_study({**given, "variants": variants, **changes}, names.overrides, names.vocabulary)

    yield study
    forget_plugins()


def built(study: Any, variant: str, sizes: Sizes = DIGITS, seed: int = 0) -> nn.Module:
    return build_model(study.variants[variant], sizes, seed)


def test_what_variants_share_is_equal_and_the_networks_own_initialization_stays(own) -> None:
    study = own("Net", ("none", "batch", "group", "rms"))
    models = {name: built(study, name) for name in study.variants}
    reference = models["batch"]
    for name, model in models.items():
        for layer in ("conv.weight", "conv2.weight", "fc.weight", "fc.bias"):
            assert torch.equal(model.get_parameter(layer), reference.get_parameter(layer)), (name, layer)
    assert abs(float(reference.conv.weight.detach().mean()) - 0.3) < 0.05  # by its own rule, not torch's
    other = built(study, "batch", seed=1)
    assert not torch.equal(other.conv.weight, reference.conv.weight)


def test_a_gamma_of_zero_carries_over_and_biases_come_back(own) -> None:
    study = own("Net", ("none", "batch", "group", "batch_custom"))
    group, none = built(study, "group"), built(study, "none")
    gammas = [p for name, p in group.named_parameters() if name.startswith("bn2.") and not p.any()]
    assert gammas  # gamma, and beta
    assert (
        len([p for name, p in group.named_parameters() if name.startswith("bn.") and not p.any()]) == 1
    )  # beta
    for model in (group, none):
        assert model.conv.bias is not None
        assert 0 < float(model.conv.bias.detach().abs().max()) <= 1 / 3  # 1 / sqrt(fan_in), of 9 weights
    assert torch.equal(group.conv.bias, none.conv.bias)
    assert built(study, "batch").conv.bias is None
    assert built(study, "batch_custom").conv.bias is None
    count = sum(p.numel() for p in none.parameters())
    assert count == 4 * 9 + 4 + 4 * 36 + 4 + 160 + 10
    assert sum(p.numel() for p in group.parameters()) == count + 16


def plain_loop(factory, arguments: dict, study: Any, seed: int, wrap=lambda x: x) -> nn.Module:
    """The network trained as a user trains it: with the seeds that bnbench derives."""
    settings: Settings = study.variants["batch"]
    data = Library(Path(), CPU).prepared(settings)
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(seed, "build"))
        model = factory(**arguments).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    threads = torch.get_num_threads()
    torch.set_num_threads(all_threads())  # as the engine does here: the number changes last bits
    for batch in epoch_order(len(data.train_targets), 32, seed, 0):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(wrap(data.train_batch(batch))), data.train_targets[batch])
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return model


@pytest.mark.parametrize(("name", "arguments"), [("Net", {"num_classes": 10, "in_channels": 1}), ("Rgb", {})])
def test_norm_batch_trains_bit_for_bit_as_the_network_in_a_plain_loop(
    own, name: str, arguments: dict
) -> None:
    from tests.network import own_networks

    study = own(name, ("none", "batch"))
    runs = [run for run in make_plan(study, lambda settings: {}) if run.variant == "batch"]
    (ended,) = [e for e in execute(runs, Library(Path(), CPU)) if isinstance(e, RunEnded)]

    def wrap(x):
        return x.expand(-1, 3, -1, -1) if name == "Rgb" else x

    model = plain_loop(getattr(own_networks, name), arguments, study, 0, wrap)
    assert ended.record.outcome != "crashed"
    assert ended.weights is not None
    for key, value in model.state_dict().items():
        assert torch.equal(torch.as_tensor(ended.weights[key]), value), key
    notes = " ".join(ended.record.notes)
    assert "its own 2 batch norms, as they are" in notes


def test_the_users_copy_of_bnbenchs_mlp_stacks_and_has_its_layers(own) -> None:
    study = own("mlp", ("none", "batch"), seeds=2)
    rehearsal = rehearse(make_plan(study, lambda settings: {}), Library(Path(), CPU), CPU)
    assert not rehearsal.mistakes
    assert {cell.choice.engine for cell in rehearsal.cells.values()} == {"stacked"}
    ours = own("mlp", ("none", "batch"), model={"name": "mlp", "hidden": [8]})
    for variant, cell in rehearsal.cells.items():
        model = build_model(ours.variants[variant], DIGITS, 0)
        count = sum(parameter.numel() for parameter in model.parameters())
        # the user's Linear before the batch norm has a bias, which bnbench's own leaves out
        assert cell.num_parameters - count == (8 if variant == "batch" else 0)
    other = rehearse(make_plan(own("LayerNormed"), lambda settings: {}), Library(Path(), CPU), CPU)
    assert {cell.choice.engine for cell in other.cells.values()} == {"sequential"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Seven", "gives (3, 7) for 3 samples, and task: image_classification wants (3, 10)"),
        ("Sized", "layer fc (Linear) got (3, 256), and takes (..., 1024)"),
        ("Sized", "Fix: nn.Linear(256, 10) there, or nn.AdaptiveAvgPool2d(1) before it"),
        (
            "OnlyAtInference",
            "1 x 8 x 8 a sample (gray images repeated to three channels), in training mode: ",
        ),
        ("OnlyAtInference", "Fix: mend that line"),
        ("Pair", "gives a tuple of (3, 10) and (3, 3, 8, 8)"),
        ("Auxiliary", "with further outputs to train by (aux)"),
        ("Functional", "layer_norm is called as a function"),
        ("Bare", "no normalizer"),
        ("TwoArguments", "a forward of one argument"),
        ("Ends", "SystemExit: 3"),
        ("Raises", "no luck"),
        ("Double", "Fix: parameters in float32, without .half() or .double()"),
        pytest.param("compiled", "a normalizer can't be replaced", marks=pytest.mark.slow),
        pytest.param(
            "scripted",
            "a normalizer can't be replaced",
            marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")],
        ),
    ],
)
def test_a_network_that_does_not_fit_is_one_mistake_before_training(own, name: str, says: str) -> None:
    rehearsal = rehearse(make_plan(own(name), lambda settings: {}), Library(Path(), CPU), CPU)
    texts = [mistake.message for mistake in rehearsal.mistakes]
    assert len(texts) == 1  # the same for all variants
    assert says in texts[0]
    assert "Fix: " in texts[0]
    assert "Traceback" not in texts[0]


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("Squeezed", {"dataset": "diabetes"}, "Fix: an output of 2 axes: without .squeeze()"),
        ("OtherStep", {"task": "denoising"}, "or of two, the second called t: the step of each sample"),
        ("Net", {"task": "denoising"}, "gives (3, 1) for 3 samples, and task: denoising wants (3, 1, 8, 8)"),
    ],
)
def test_outputs_that_do_not_fit_another_task(own, name: str, changes: dict, says: str) -> None:
    study = own(name, ("batch",), **changes)
    (mistake,) = rehearse(make_plan(study, lambda settings: {}), Library(Path(), CPU), CPU).mistakes
    assert says in mistake.message


def test_a_network_that_seeds_torch_itself_says_so(own) -> None:
    study = own("Seeds", ("batch",))
    one, other = (built(study, "batch", seed=seed) for seed in (0, 1))
    assert torch.equal(one.conv2.weight, other.conv2.weight)
    assert "its own code seeds torch" in said_of(one)
    assert "seeds torch" not in said_of(built(own("Rgb", ("batch",)), "batch"))


def test_a_step_with_a_default_is_given_too(own) -> None:
    study = own("OptionalStep", ("batch",), task="denoising")
    rehearsal = rehearse(make_plan(study, lambda settings: {}), Library(Path(), CPU), CPU)
    assert "the step as its second argument" in rehearsal.cells["batch"].network


def test_images_are_resized_where_the_model_says_so(own) -> None:
    study = own("Rgb", ("batch",))
    settings = study.variants["batch"]
    sized = settings.model.model_copy(update={"options": {**settings.model.options, "image_size": 16}})
    model = build_model(settings.model_copy(update={"model": sized}), DIGITS, 0).eval()
    seen: list[Any] = []
    model.conv.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.randn(2, 1, 8, 8)
    model(x)
    wanted = nn.functional.interpolate(x.expand(-1, 3, -1, -1), size=16, mode="bilinear", antialias=True)
    assert torch.equal(seen[0], wanted)
    assert "images resized to 16 x 16" in said_of(model)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        pytest.param(
            "UNet",
            {"task": {"name": "denoising", "steps": 10}},
            "the step as its second argument",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "PlainUNet",
            {"task": {"name": "denoising", "steps": 10}},
            "the step as a further channel",
            marks=pytest.mark.slow,
        ),
        ("PlainUNet", {"dataset": {"name": "shapes", "size": 8, "samples": 40}}, ""),
        ("Features", {"dataset": "diabetes"}, "features as (N, F)"),
        ("Features", {"dataset": "breast_cancer"}, "features as (N, F)"),
        ("Words", {"dataset": "text_topics"}, "its second argument says what is padding"),
        ("Letters", {"dataset": "stdlib_text"}, "it has no batch norm"),
    ],
)
def test_other_tasks_train_ones_own_network(own, name: str, changes: dict, says: str) -> None:
    study = own(name, ("rms",), max_train_samples=64, max_eval_samples=32, **changes)
    study_runs = make_plan(study, lambda settings: {})
    library = Library(Path(), CPU)
    assert not rehearse(study_runs, library, CPU).mistakes
    (ended,) = [e for e in execute(study_runs, library) if isinstance(e, RunEnded)]
    assert ended.record.outcome != "crashed", ended.record.error
    assert says in " ".join(ended.record.notes)


def test_a_network_that_is_built_already_says_that_all_seeds_start_from_its_weights(own) -> None:
    study = own("ready", ("batch",))
    one, other = (built(study, "batch", seed=seed) for seed in (0, 1))
    assert torch.equal(one.conv.weight, other.conv.weight)
    assert one is not other
    assert "every seed starts from the weights that the file has built" in said_of(one)


@pytest.mark.parametrize("norm", ["fixup", "scaled_weight_standardization", "qk"])
def test_a_normalizer_that_cant_stand_at_a_site_names_it_with_file_and_line(own, norm: str) -> None:
    line = next(i for i, text in enumerate(FILE.read_text().splitlines(), 1) if "self.bn = nn" in text)
    with pytest.raises(BnbenchError) as caught:
        built(own("Net", (norm,)), norm)
    assert f"norm {norm} can't stand at 2 sites" in str(caught.value)
    assert f"nets.py:{line})" in str(caught.value)


@pytest.mark.parametrize("task", ["gan", "vae"])
def test_a_task_of_more_than_one_output_refuses_it(own, task: str) -> None:
    study = own("Rgb", ("batch",), task=task)
    with pytest.raises(BnbenchError, match=f"does not fit task: {task}"):
        build_model(study.variants["batch"], DIGITS, 0)


def test_an_option_that_the_network_has_not_is_refused(own, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'unknown key "widht".*Did you mean "width"'):
        own("Net,widht=3")
    assert own("Net,width=6").variants["batch"].model.options["width"] == 6
