"""One source (YAML or a dict, and overrides) becomes a Study: variants merged, values checked, all mistakes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnbench.base.errors import ConfigError, Mistake, unknown_name
from bnbench.base.task_facts import TaskFacts, any_task
from bnbench.study.cells import CellMaker
from bnbench.study.check import Checker, Vocabulary
from bnbench.study.evaluation_reader import read_evaluate, read_test_sets, refuse_looks, task_metrics
from bnbench.study.expect import with_claims
from bnbench.study.goals import Goals
from bnbench.study.layer_names import names_code, names_network, network_refusal, refusal
from bnbench.study.looks import means_auto, read_looks
from bnbench.study.merge import Level, alive, open_level, overlay, parted, sets
from bnbench.study.names import folder_name, name_fault
from bnbench.study.overrides import ARGUMENT, ORIGINS, Overrides
from bnbench.study.probe_reader import read_probe, unprobed
from bnbench.study.remarks import all_cautions, misnamed
from bnbench.study.roles import refuse_baseline, take_roles
from bnbench.study.schema import CHOICES, Settings, Study
from bnbench.study.seeds import MAX_SEEDS, read_seeds
from bnbench.study.sweep import MAX_RUNS, Sweep, read_sweep
from bnbench.study.values import with_paths
from bnbench.study.variants import Variants
from bnbench.study.vary import DEFAULT_VARY, read_vary
from bnbench.study.vary import Source as Varied
from bnbench.study.yaml_source import Source


class Resolver:
    """Checks one source; gathers mistakes and warnings on the way. path: of its file, None where it is a dict."""

    def __init__(
        self,
        source: Source,
        path: Path | None,
        vocabulary: Vocabulary,
        overrides: Sequence[str],
        origin: str,
    ) -> None:
        self.source, self.origin = source, origin
        self.path = path if path and path.is_file() else None  # neither a dict nor a pipe
        self.mistakes: list[Mistake] = list(source.mistakes)
        self.warnings: list[str] = []
        settings, source.data = parted(source.data)
        self.overrides = Overrides(overrides, source, self.mistakes, origin)
        self.base = open_level(settings, (), source, self.mistakes)
        #: Where relative paths are: beside the study's file, or, of one from a pipe or a dict, here.
        self.folder = self.path.parent if self.path else Path.cwd()
        self.checker = Checker(vocabulary, self.folder)
        self.vary = self._vary()
        self.probe = read_probe(
            source.data.get("probe"),
            vocabulary["probe"],
            source.place,
            lambda path, text: self._wrong(path, text),
        )
        self.evaluate = read_evaluate(source.data.get("evaluate"), source.place, self._wrong)
        metrics = task_metrics(name for entry in vocabulary["task"].values() for name in entry.metric_names())
        self.test_sets = read_test_sets(
            source.data.get("test_sets"), source, self.checker, metrics, self.mistakes
        )
        self.checks: dict[str, str] = {}

    def study(self) -> Study:
        """All variants at all settings."""
        base = overlay(self.base, self.overrides.settings, self.mistakes)
        variants = self._variants(base)
        levels = {}
        for name, change in variants.levels(variants.names(), more=self.overrides.variants).items():
            level = overlay(base, change, self.mistakes)
            levels[name] = overlay(level, self.overrides.variants.get(name, {}), self.mistakes)
        self._note_refusals(base, levels)
        self.checks = take_roles(levels, base, self.mistakes)
        sweep = read_sweep(self.source.data.get("sweep"), self._wrong)
        return self._study(levels or {"none": base}, self._with_paths(sweep))

    def _note_refusals(self, base: Level, levels: Mapping[str, Level]) -> None:
        """Where the study tries to name code itself: the override that names it."""
        shared = base.get(("norm", "name"))
        path = None if self.origin == ARGUMENT else self.path or "-"
        for name, level in levels.items():
            network = level.get(("model", "name"))
            if network is not None and names_network(network.value):
                self.checker.refusals[network.place] = network_refusal(network.value, path)
            leaf = level.get(("norm", "name"))
            if leaf is not None and names_code(leaf.value):
                key = "norm" if shared is not None and shared.place == leaf.place else f"variants.{name}.norm"
                self.checker.refusals[leaf.place] = refusal(leaf.value, f"{key}={leaf.value}", path)

    def one_variant(self, variant: str | None) -> Study:
        """A study of one variant; the command line has the last word."""
        variants = self._variants(overlay(self.base, self.overrides.settings, []))
        names = variants.names()
        name = variant or next(iter(names), "none")
        if variant and "variants" not in self.source.data:
            problem = f'no variants are defined, so there is no "{variant}" to train.'
            raise ConfigError([Mistake(self.source.place(()), problem)])
        if names and name not in names:
            raise ConfigError(
                [Mistake(self.source.place(("variants",)), unknown_name("variant", name, names))]
            )
        change = variants.levels(names, only=name).get(name, {})
        take_roles({name: change}, {}, [])  # alone, it checks nothing
        level = overlay(self.base, change, self.mistakes)
        if self.source.data.pop("sweep", None):
            self.warnings.append("one variant is trained as it is: the study's sweep is left out.")
        self.source.data.pop("baseline", None)
        self.source.data.pop("expect", None)
        return self._study({name: overlay(level, self.overrides.settings, self.mistakes)}, Sweep())

    def _study(self, levels: Mapping[str, Level], sweep: Sweep) -> Study:
        data = self.source.data
        made = CellMaker(self.source, self.checker, self.mistakes, self._complete).make(levels, sweep)
        self._dead_settings(levels, sweep)
        if self.probe and (
            keras := [cell.variant for cell in made.cells if cell.settings.framework != "torch"]
        ):
            self._wrong(("probe",), unprobed(keras))
        task = self._task(made.variants)
        goals = Goals(self.source, task, self.mistakes, self.warnings)
        seeds = data.get("seeds", 5)
        looks = self._looks(seeds, len(levels) - len(self.checks)) if means_auto(seeds) else ()
        refuse_looks(self.evaluate, looks, self._wrong)
        study = Study(
            name=self._name(),
            description=self._description(),
            seeds=tuple(range(looks[-1])) if looks else self._seeds(seeds),
            variants=made.variants,
            baseline=self._baseline(list(levels)),
            targets=goals.targets(data.get("target")),
            sweep=sweep.written(),
            cells=tuple(made.cells),
            primary=goals.primary(data.get("primary")),
            margin=goals.margin(data.get("margin")),
            looks=looks,
            metrics=goals.metrics(data.get("metrics")),
            task=task,
            checks=self.checks,
        )
        study = with_claims(study, self.source, tuple(levels), self.mistakes)
        refuse_baseline(study.baseline, self.checks, self.source.place(("baseline",)), self.mistakes)
        runs = len(study.cells) * len(study.seeds)
        if runs > MAX_RUNS:
            problem = f"{len(study.cells):,} cells x {len(study.seeds):,} seeds are {runs:,} runs"
            self._wrong(
                ("seeds",), f"{problem}: a study has at most {MAX_RUNS:,}. Fix: fewer seeds or settings."
            )
        if self.mistakes:
            known, unreadable = set(self.source.mistakes), self.source.unreadable
            mistakes = [one for one in set(self.mistakes) if one in known or one.place not in unreadable]
            raise ConfigError(sorted(mistakes, key=_by_line))
        unlike = misnamed(made.variants, self.checker.vocabulary["norm"])
        warnings = (*self.warnings, *unlike, *all_cautions(made))
        return replace(study, warnings=tuple(dict.fromkeys(warnings)))

    def _task(self, variants: Mapping[str, Settings]) -> TaskFacts:
        """The one that all variants have: numbers of two tasks do not compare."""
        names = {name: settings.task.name for name, settings in variants.items()}
        if not names:  # all are wrong: their mistakes are reported, and the goals are held against every task
            known = any_task(entry.facts for entry in self.checker.vocabulary["task"].values())
            return replace(known, test_sets=tuple(one.name for one in self.test_sets))
        first, *others = names.items()
        for name, task in others:
            if task != first[1]:
                self._wrong(
                    ("variants", name),
                    f"{name} has the task {task}, and {first[0]} has {first[1]}: their numbers do not compare. "
                    "Fix: one task for all variants, two studies for two tasks.",
                )
                break
        facts: TaskFacts = self.checker.vocabulary["task"][first[1]].facts
        return replace(facts, test_sets=tuple(one.name for one in self.test_sets))

    def _variants(self, base: Level) -> Variants:
        return Variants(self.source, self.checker.vocabulary["norm"], base, self.mistakes)

    def _with_paths(self, sweep: Sweep) -> Sweep:
        def absolute(key: str, value: Any) -> Any:
            from_file = not self.source.place(("sweep", key)).startswith(ORIGINS)
            return with_paths(key, value, self.checker.vocabulary, self.folder if from_file else Path.cwd())

        return sweep.mapped(absolute)

    def _complete(self, settings: Settings) -> Settings:
        whole = {
            "vary": self.vary,
            "probe": self.probe,
            "evaluate": self.evaluate,
            "test_sets": self.test_sets,
        }
        return settings.model_copy(update=whole)

    def _vary(self) -> tuple[Varied, ...]:
        if "vary" not in self.source.data:
            return DEFAULT_VARY
        try:
            return read_vary(self.source.data["vary"])
        except ValueError as error:
            self._wrong(("vary",), str(error))
            return DEFAULT_VARY

    def _wrong(self, path: tuple[str, ...], message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))

    def _name(self) -> str:
        if "name" not in self.source.data:
            return folder_name(self.path.stem) if self.path else "study"
        name = self.source.data["name"]
        wrong = (
            name_fault(name) if isinstance(name, str) else f"{name!r} is not a word. Fix: leave the key out"
        )
        if wrong:
            self._wrong(("name",), f"name: {name!r} can't be a folder's name: {wrong}.")
            return "study"
        return str(name)

    def _description(self) -> str:
        text = self.source.data.get("description")
        if text is not None and not isinstance(text, str):
            self._wrong(("description",), f"description: {text!r} is not a text. Fix: put it into quotes.")
        return str(text or "")

    def _dead_settings(self, levels: Mapping[str, Level], sweep: Sweep) -> None:
        """What is overruled everywhere would do nothing: report it."""
        wrong = {mistake.place for mistake in self.mistakes}
        for path, leaf in self.overrides.settings.items():
            key, text = self.overrides.texts.get(leaf.place, ("", ""))
            if not key or leaf.place in wrong:
                continue
            if not any(alive(level, path, leaf.place) for level in levels.values()):
                why = (
                    f"every variant sets {path[0]} itself. Fix: variants.NAME.{text}, with the variant that "
                    "is meant."
                )
            elif any(sets(swept, key) for swept in sweep.keys):
                why = f"the sweep sets {key}. Fix: sweep=null {text}."
            else:
                continue
            self.mistakes.append(Mistake(self.overrides.origin, f"{text} would change nothing: {why}"))
        given = overlay(self.base, self.overrides.settings, [])
        for section in dict.fromkeys(path[0] for path in self.base):
            leaves = {path: leaf for path, leaf in self.base.items() if path[0] == section}
            if not any(alive(given, path, leaf.place) for path, leaf in leaves.items()) or any(
                alive(level, path, leaf.place) for path, leaf in leaves.items() for level in levels.values()
            ):
                continue
            path, leaf = next(iter(leaves.items()))
            problem = f"{'.'.join(path)} changes nothing: every variant sets {section} itself"
            if section in CHOICES and (section, "name") not in leaves:
                fix = f"Fix: write it in the variants, or name the {section} that it belongs to."
                self.mistakes.append(
                    Mistake(leaf.place, f"{problem}, and its options go with its name. {fix}")
                )
            else:
                self.warnings.append(f"{leaf.place}: {problem}.")

    def _looks(self, given: Any, num_variants: int) -> tuple[int, ...]:
        """The numbers of seeds at which the study looks at its result, for `seeds: auto`."""
        if num_variants == 1:
            self._wrong(
                ("seeds",),
                "seeds: auto stops where a difference is decided, but there is one variant (train takes one) beside "
                "its checks, and nothing to compare it with. Fix: a number of seeds, such as seeds=5.",
            )
        return read_looks(given, MAX_SEEDS, lambda message: self._wrong(("seeds",), message))

    def _seeds(self, given: Any) -> tuple[int, ...]:
        try:
            return read_seeds(given)
        except ValueError as error:
            self._wrong(("seeds",), str(error))
            return (0,)

    def _baseline(self, names: list[str]) -> str:
        baseline = self.source.data.get("baseline")
        first = names[0] if names else ""
        if baseline is None:
            return "none" if "baseline" in self.source.data and "none" in names else first
        if str(baseline) not in names and names:
            self._wrong(("baseline",), unknown_name("variant", str(baseline), names))
        return str(baseline)


def _by_line(mistake: Mistake) -> tuple[str, int, str]:
    file, _, line = mistake.place.rpartition(":")
    return (file, int(line), mistake.message) if line.isdigit() else (mistake.place, 0, mistake.message)
