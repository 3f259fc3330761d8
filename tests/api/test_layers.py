"""`norm=my_layers.py:MyNorm` on the command line: found, typed, known by its source; never from a study's file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

import bnbench
from bnbench.api.plugins import Names, known_names
from bnbench.base.errors import BnbenchError, ConfigError, PluginError
from bnbench.cli.app import app
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.networks import Networks
from bnbench.norms import norms
from bnbench.study import Study, load_study

LAYERS = """
from __future__ import annotations
import enum
from pathlib import Path
from typing import Annotated, Literal
import torch
from pydantic import Field
from torch import nn
from helper import SCALE

class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"

class MyNorm(nn.BatchNorm1d):
    '''Mine.'''
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, momentum)

class Typed(nn.Module):
    def __init__(self, num_features: int, mode: Mode, where: Path | None = None, act=nn.ReLU(),
                 sizes: tuple[int, ...] = (1, 2), rate: Annotated[float, Field(gt=0)] = 0.5, device=None):
        super().__init__()
        assert isinstance(mode, Mode), mode
        assert isinstance(sizes, tuple), sizes
        assert where is None or isinstance(where, Path), where
        self.mode = mode
    def forward(self, x):
        return x * SCALE

def make(num_features, dim, *, affine=True):
    return (nn.BatchNorm1d if dim == 1 else nn.BatchNorm2d)(num_features, affine=affine)

class NeedsMore(nn.Module):
    def __init__(self, num_groups, num_channels):
        super().__init__()

class Raises(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        raise ZeroDivisionError("none of these")

class NoSuper(nn.Module):
    def __init__(self, num_features):
        pass

class Images(nn.BatchNorm2d):
    pass

def nothing(num_features):
    return None

instance = MyNorm(3)
"""
STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
seeds: 2
epochs: 1
max_train_samples: 64
variants: {none: {norm: none}, batch: {norm: batch}}
"""
DIGITS = Sizes((1, 8, 8), 10)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the layers, a helper and a study, where commands are given."""
    (tmp_path / "my_layers.py").write_text(LAYERS)
    (tmp_path / "helper.py").write_text("SCALE = 1.0\n")
    (tmp_path / "s.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    known_names()


def studied(*overrides: str, plugins: tuple[str, ...] = ()) -> tuple[Study, Names]:
    names = known_names([Path(plugin) for plugin in plugins], overrides)
    return load_study(Path("s.yaml"), names.overrides, names.vocabulary), names


def layer_of(study: Study, variant: str, seed: int = 0) -> nn.Module:
    model = build_model(study.variants[variant], DIGITS, seed)
    return model.get_submodule("blocks.0.norm")


def content(study: Study, names: Names, variant: str) -> dict[str, str]:
    settings = study.variants[variant]
    return names.reached(settings, Networks().objects(settings, DIGITS, 0)).content()


@pytest.mark.parametrize(
    "word", ["my_layers.py:MyNorm", "./my_layers.py:MyNorm", "{folder}/my_layers.py:MyNorm"]
)
@pytest.mark.parametrize(
    "override",
    [
        "variants.mine.norm={word}",
        "variants.mine.norm.name={word}",
        "variants.mine={{norm: {word}}}",
        "variants={{none: {{norm: none}}, mine: {{norm: {word}}}}}",
        'variants.mine={{"norm.name": "{word}"}}',
    ],
)
def test_a_variant_s_layer_wherever_its_file_is_named(project: Path, override: str, word: str) -> None:
    study, names = studied(override.format(word=word.format(folder=project)))
    assert study.variants["mine"].norm.name == "my_layers.py:MyNorm"
    assert study.variants["mine"].norm.options == {"eps": 1e-5, "momentum": 0.1}
    assert type(layer_of(study, "mine")).__name__ == "MyNorm"
    assert content(study, names, "mine").keys() == {"my_layers.py", "helper"}
    assert content(study, names, "none") == {}


def test_options_are_those_of_its_signature_and_reach_it_as_their_types(project: Path) -> None:
    given = "{name: my_layers.py:Typed, mode: slow, where: a/b, sizes: [3], rate: 2}"
    study, _ = studied(f"variants.mine.norm={given}")
    assert study.variants["mine"].norm.options == {
        "mode": "slow",
        "where": str(project / "a/b"),
        "sizes": [3],
        "rate": 2.0,
    }
    assert layer_of(study, "mine").mode.name == "SLOW"  # type: ignore[union-attr]
    study, _ = studied("variants.mine.norm=my_layers.py:MyNorm", "variants.mine.norm.eps=1e-3")
    assert layer_of(study, "mine").eps == 1e-3


def test_an_override_of_all_variants_and_a_list_name_the_variant_by_the_layer(project: Path) -> None:
    (project / "s.yaml").write_text(STUDY.replace("variants:", "x-variants:"))
    study, _ = studied("norm=my_layers.py:MyNorm")
    assert list(study.variants) == ["MyNorm"]
    study, _ = studied("variants=[none, my_layers.py:make, torch.nn:BatchNorm1d]")
    assert list(study.variants) == ["none", "make", "BatchNorm1d"]
    study, _ = studied("sweep={norm: [none, {name: my_layers.py:make, affine: false}]}")
    assert [cell.settings.norm.name for cell in study.cells] == ["none", "my_layers.py:make"]


def test_a_factory_gets_the_dim_and_a_module_may_be_named(project: Path) -> None:
    study, names = studied("variants.mine.norm=my_layers.py:make", "model={name: cnn, channels: [4]}")
    model = build_model(study.variants["mine"], DIGITS, 0)
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    study, names = studied("variants.mine.norm=torch.nn:BatchNorm1d")
    assert type(layer_of(study, "mine")) is nn.BatchNorm1d
    assert names.uses_plugins(study.variants["mine"])
    assert "torch" in names.reached(study.variants["mine"]).installed


def test_its_biases_follow_the_fairness_rule(project: Path) -> None:
    study, _ = studied(
        "variants.mine.norm=my_layers.py:MyNorm", "variants.typed.norm={name: my_layers.py:Typed, mode: fast}"
    )
    mine = build_model(study.variants["mine"], DIGITS, 0)
    batch = build_model(study.variants["batch"], DIGITS, 0)
    typed = build_model(study.variants["typed"], DIGITS, 0)
    assert mine.get_submodule("blocks.0.linear").bias is None
    assert typed.get_submodule("blocks.0.linear").bias is not None
    assert mine.state_dict().keys() == batch.state_dict().keys()
    assert torch.equal(mine.state_dict()["head.weight"], batch.state_dict()["head.weight"])


def test_a_change_of_what_it_reaches_is_another_run_and_a_move_is_not(project: Path, tmp_path: Path) -> None:
    before = content(*studied("variants.mine.norm=my_layers.py:MyNorm"), "mine")
    (project / "elsewhere").mkdir()
    for name in ("my_layers.py", "helper.py"):
        (project / "elsewhere" / name).write_bytes((project / name).read_bytes())
    for name in ("my_layers.py", "helper.py"):
        (project / name).unlink()
    assert content(*studied("variants.mine.norm=elsewhere/my_layers.py:MyNorm"), "mine") == before
    (project / "elsewhere/helper.py").write_text("SCALE = 2.0\n")
    assert content(*studied("variants.mine.norm=elsewhere/my_layers.py:MyNorm"), "mine") != before


def test_two_files_of_one_name(project: Path) -> None:
    (project / "other").mkdir()
    (project / "other/my_layers.py").write_text("from torch import nn\nclass MyNorm(nn.LayerNorm): ...\n")
    study, names = studied("variants.a.norm=my_layers.py:MyNorm", "variants.b.norm=other/my_layers.py:MyNorm")
    assert isinstance(layer_of(study, "a"), nn.BatchNorm1d)
    assert isinstance(layer_of(study, "b"), nn.LayerNorm)
    assert study.variants["b"].norm.name == "other/my_layers.py:MyNorm"
    assert content(study, names, "a") != content(study, names, "b")


def test_a_plugin_and_a_layer_of_one_file(project: Path) -> None:
    once = "@norms.register('once')\ndef once(num_features, dim):\n    return MyNorm(num_features)\n"
    text = f"{LAYERS}\nfrom bnbench.norms import norms\n{once}"
    (project / "my_layers.py").write_text(text)
    study, _ = studied(
        "variants.a.norm=my_layers.py:MyNorm", "variants.b.norm=once", plugins=("my_layers.py",)
    )
    assert type(layer_of(study, "a")) is type(layer_of(study, "b"))
    known_names()
    assert "once" not in norms.names()
    assert "my_layers.py:MyNorm" not in norms.names()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("my_layer.py:MyNorm", 'my_layer.py: no such file. Did you mean "my_layers.py"?'),
        ("my_layers.py:MyNrom", 'my_layers.py: there is no "MyNrom" in it. Did you mean "MyNorm"?'),
        ("my_layers.py", "my_layers.py: which of its layers? Its layers: MyNorm, "),
        ("my_layers.py:SCALE", "SCALE is float"),
        ("my_layers.py:instance", "instance is a layer that is made already"),
        ("my_layers.py:NeedsMore", "bnbench can't call NeedsMore(num_groups, num_channels)."),
        ("notes.ipynb:MyNorm", "notes.ipynb is a notebook, and a layer is imported from a Python file."),
        ("no_such_module:MyNorm", 'no module "no_such_module" can be imported.'),
        ("torch.nn:BatchNorm", 'torch.nn: there is no "BatchNorm" in it. Did you mean'),
        ("fails.py:X", "fails.py:2: ZeroDivisionError: division by zero"),
        (
            "relative.py:X",
            "relative.py:1: ImportError: attempted relative import with no known parent package",
        ),
        ("folder.py:X", "folder.py: a folder."),
        ("exits.py:X", "exits.py:1: it ends the program (sys.exit) while it is imported."),
    ],
)
def test_a_layer_that_can_not_be_had_has_the_message_of_verify(
    project: Path, word: str, message: str
) -> None:
    (project / "fails.py").write_text("x = 1\n1 / 0\n")
    (project / "exits.py").write_text("raise SystemExit(3)\n")
    (project / "relative.py").write_text("from .helper import SCALE\n")
    (project / "folder.py").mkdir()
    before = norms.names()
    with pytest.raises(BnbenchError) as caught:
        studied(f"variants.mine.norm={word}")
    assert message in str(caught.value)
    assert norms.names() == before
    checked = CliRunner().invoke(app, ["verify", word])
    assert checked.exit_code == 1
    assert str(caught.value).partition("\n")[0] in checked.stderr


def test_several_mistakes_at_once(project: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        studied("variants.a.norm=nowhere.py:A", "variants.b.norm=my_layers.py:Nothing")
    assert [mistake.place for mistake in caught.value.mistakes] == [
        "command line: variants.a.norm=nowhere.py:A",
        "command line: variants.b.norm=my_layers.py:Nothing",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("my_layers.py:Typed", "norm.mode is missing."),
        (
            "{name: my_layers.py:Typed, mode: wrong}",
            "norm.mode: 'wrong' is wrong: it should be 'fast' or 'slow'.",
        ),
        ("{name: my_layers.py:Typed, mode: fast, rate: 0}", "norm.rate: 0 is wrong"),
        (
            "{name: my_layers.py:MyNorm, epss: 1}",
            'unknown key "epss" in norm my_layers.py:MyNorm. Did you mean "eps"?',
        ),
        ("{name: my_layers.py:Typed, mode: fast, act: 1}", 'unknown key "act"'),
        ("{name: my_layers.py:MyNorm, eps: true}", "norm.eps: True is wrong: a number is wanted"),
    ],
)
def test_wrong_options_are_mistakes_of_the_study(project: Path, given: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        studied(f"variants.mine.norm={given}")
    assert message in str(caught.value)
    assert "command line: " in str(caught.value)


@pytest.mark.parametrize(
    ("line", "override"),
    [
        (
            "variants: {none: {norm: none}, mine: {norm: 'my_layers.py:MyNorm'}}",
            "variants.mine.norm=my_layers.py:MyNorm",
        ),
        ("norm: my_layers.py:MyNorm", "norm=my_layers.py:MyNorm"),
        ("norm: {name: my_layers.py:MyNorm, eps: 1}", "norm=my_layers.py:MyNorm"),
        ("variants: [none, 'my_layers.py:MyNorm']", "'variants=[none, my_layers.py:MyNorm]'"),
    ],
)
def test_a_study_s_file_runs_no_code(project: Path, line: str, override: str) -> None:
    (project / "my_layers.py").write_text("open('ran', 'w')\n")
    key = line.partition(":")[0]
    rest = [text for text in STUDY.splitlines() if not text.startswith((key, "variants"))]
    (project / "s.yaml").write_text("\n".join([*rest, line]))
    with pytest.raises(ConfigError) as caught:
        studied()
    (mistake,) = caught.value.mistakes
    assert mistake.place.startswith("s.yaml:")
    assert "my_layers.py:MyNorm names code, and a study runs none by itself." in mistake.message
    assert mistake.message.endswith(override)
    assert not (project / "ran").exists()


def test_a_dict_runs_no_code_either(project: Path) -> None:
    study = {
        **yaml.safe_load(STUDY),
        "variants": {"none": {"norm": "none"}, "mine": {"norm": "my_layers.py:MyNorm"}},
    }
    with pytest.raises(ConfigError) as caught:
        bnbench.check(study)
    assert str(caught.value).endswith(
        "Fix: name it in the overrides: overrides=['variants.mine.norm=my_layers.py:MyNorm']"
    )


def test_a_lazy_layer_has_its_parameters_and_no_statistics_yet(project: Path) -> None:
    lazy = "from torch import nn\ndef make(n, dim): return nn.LazyBatchNorm1d() if dim == 1 else nn.LazyBatchNorm2d()\n"
    (project / "lazy.py").write_text(lazy)
    study, _ = studied("variants.mine.norm=lazy.py:make")
    layer = layer_of(study, "mine")
    assert isinstance(layer, nn.BatchNorm1d)
    assert layer.num_features == 8
    assert layer.num_batches_tracked == 0
    assert layer.training


def command(*words: str) -> Any:
    return CliRunner().invoke(app, [*words])


def test_compare_rerun_report_and_its_own_study_file(project: Path) -> None:
    words = ["compare", "s.yaml", "-o", "out", "--format", "json"]
    mine = ["variants.mine.norm={name: my_layers.py:MyNorm, eps: 1e-3}"]
    first = command(*words, *mine, "-j", "1")
    assert first.exit_code == 0, first.output
    summary = json.loads(first.stdout)
    assert {v["name"]: v["norm"] for v in summary["variants"]} == {
        "none": "none",
        "batch": "batch",
        "mine": "MyNorm",
    }
    assert command("report", "out").exit_code == 0
    again = command(*words, *mine)
    assert "6 of 6 runs are finished already" in again.stderr
    kept = yaml.safe_load(Path("out/study.yaml").read_text())
    assert kept["variants"]["mine"]["norm"] == {"name": "my_layers.py:MyNorm", "eps": 1e-3, "momentum": 0.1}
    refused = command("check", "out/study.yaml")
    assert refused.exit_code == 1
    assert "bnbench compare out/study.yaml variants.mine.norm=my_layers.py:MyNorm" in refused.stderr
    named = command("compare", "out/study.yaml", "-o", "out", "variants.mine.norm.name=my_layers.py:MyNorm")
    assert "6 of 6 runs are finished already" in named.stderr, named.output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("my_layers.py:Raises", "Raises can't be made: ZeroDivisionError: none of these"),
        ("my_layers.py:NoSuper", "the __init__ of NoSuper does not call torch's."),
        ("my_layers.py:nothing", "nothing returned NoneType, not a torch.nn.Module."),
        (
            "my_layers.py:Images",
            "Images does not take inputs (N, C): ValueError: expected 4D input (got 2D input)",
        ),
    ],
)
def test_what_can_not_be_built_is_a_mistake_before_anything_is_trained(
    project: Path, word: str, message: str
) -> None:
    result = command("compare", "s.yaml", f"variants.mine.norm={word}", "-o", "out")
    assert result.exit_code == 1
    assert "variant mine: " in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("out").exists()


def test_it_trains_in_workers_and_a_change_meanwhile_is_noticed(project: Path) -> None:
    words = ["compare", "s.yaml", "variants.mine.norm=my_layers.py:MyNorm", "-o", "out", "-q"]
    result = command(*words, "-j", "2")
    assert result.exit_code == 0, result.output
    alone = command(
        "compare", "s.yaml", "variants.mine.norm=my_layers.py:MyNorm", "-o", "alone", "-q", "-j", "1"
    )
    assert alone.exit_code == 0, alone.output
    summaries = [json.loads(Path(folder, "summary.json").read_text()) for folder in ("out", "alone")]
    ends = [[run["final"] for variant in one["variants"] for run in variant["runs"]] for one in summaries]
    assert len(ends[0]) == 6
    assert ends[0] == ends[1]
    loader = known_names((), ["norm=my_layers.py:MyNorm"]).loader()
    assert loader is not None
    (project / "helper.py").write_text("SCALE = 2.0\n")
    with pytest.raises(PluginError, match="helper: changed while the study was running"):
        loader()


def test_train_takes_it(project: Path) -> None:
    result = command("train", "s.yaml", "norm=my_layers.py:MyNorm", "seeds=1", "-o", "out", "-q")
    assert result.exit_code == 0, result.output


def test_text_that_only_looks_like_it_is_left_alone(project: Path) -> None:
    (project / "s.yaml").write_text(textwrap.dedent(STUDY))
    study, _ = studied("description=my_layers.py:MyNorm is not loaded", "name=x")
    assert study.description == "my_layers.py:MyNorm is not loaded"
