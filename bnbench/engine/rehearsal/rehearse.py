"""The rehearsal: the mistakes of a study, the limits of its answer, and its engines, from its real networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from bnbench.base.errors import BnbenchError, Mistake
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import raise_interrupt
from bnbench.data.augmentations import TRIAL
from bnbench.data.batches import steps_per_epoch
from bnbench.data.prepared import Prepared
from bnbench.engine.backends.base import backend_of
from bnbench.engine.build import make_objective, make_optimizer, make_schedule
from bnbench.engine.cell import Cell
from bnbench.engine.choose import count_parameters
from bnbench.engine.library import Prepares
from bnbench.engine.networks import Networks
from bnbench.engine.own import said_of
from bnbench.engine.rehearsal.batch_classes import check_classes, check_classes_in_training
from bnbench.engine.rehearsal.case import Case
from bnbench.engine.rehearsal.causality import (
    leaks_of,
    why_reads_the_answer,
    why_sees_later_tokens,
)
from bnbench.engine.rehearsal.equal_seeds import why_equal
from bnbench.engine.rehearsal.mistakes import build_mistake
from bnbench.engine.rehearsal.padding import padding_of, why_padding_counts
from bnbench.engine.rehearsal.probe_faults import ProbeFaults
from bnbench.engine.rehearsal.running_statistics import share_left, why_unfilled
from bnbench.engine.rehearsal.single_values import why_alone, why_one_weight
from bnbench.engine.rehearsal.task_faults import why_unfit
from bnbench.engine.rehearsal.trial_outputs import UNCHANGED, ByMode
from bnbench.engine.rehearsal.unused_groups import UsedGroups
from bnbench.engine.rehearsal.ways import judge_ways, no_statistics, ways_asked
from bnbench.engine.sequences import Sequences
from bnbench.network.biases import Layers, is_covered, missing_biases
from bnbench.network.sites.recorded import Site, Sites, WeightLayer, find_sites
from bnbench.optim.trained import count_trained
from bnbench.study.cautions import warm_up_fault
from bnbench.study.evaluation import line_name
from bnbench.study.plan import RunSpec
from bnbench.study.probed_claims import Looked


@dataclass(frozen=True)
class Rehearsal:
    """The result. cells: what was decided for each, by its label. mistakes: if there are any, nothing can be trained.

    forward_errors: what a cell's network raised on a batch, by the cell's label. looked: what the probe of a cell
    sees, by its label.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    forward_errors: dict[str, BaseException] = field(default_factory=dict)
    looked: dict[str, Looked] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[str, ...]:
        """The further ways of inference of the variants that have them, such as batch@precise."""
        cells = self.cells.values()
        return tuple(dict.fromkeys(line_name(c.runs[0].variant, way) for c in cells for way in c.ways))


def rehearse(
    runs: Iterable[RunSpec], library: Prepares, device: torch.device, networks: Networks | None = None
) -> Rehearsal:
    """Choose the engine of every cell of a study, and find its mistakes before training.

    A network that can be built and raises on a batch is not a mistake here: its runs crash, and the others go on.
    """
    of_cells: dict[str, list[RunSpec]] = {}
    for run in runs:
        of_cells.setdefault(run.label, []).append(run)
    cases, mistakes = list[Case](), list[Mistake]()
    for label, of_cell in of_cells.items():
        first = of_cell[0]
        try:
            cases.append(_case_of(of_cell, library.prepared(first.settings.for_seed(first.seed))))
        except BaseException as error:
            raise_interrupt(error)
            mistakes.append(build_mistake(label, error))
    return rehearse_cases(cases, device, networks or Networks(), mistakes)


def _case_of(runs: list[RunSpec], data: Prepared) -> Case:
    check_classes_in_training(runs[0].settings, data)
    smallest = min(data.part_sizes())
    case = Case(tuple(runs), data.sizes, len(data.train_targets), smallest, data.pixels())
    if case.augmentation:
        case.augmentation.check_data(data)
    return case


def rehearse_cases(
    cases: Iterable[Case], device: torch.device, networks: Networks, mistakes: Iterable[Mistake] = ()
) -> Rehearsal:
    """Build and probe the network of every cell; equal networks are probed once. mistakes: those known already."""
    probed: dict[str, _Probe] = {}
    cells: dict[str, Cell] = {}
    layers, used, probe_faults = list[Layers](), UsedGroups(), ProbeFaults()
    errors: dict[str, BaseException] = {}
    by_message = {mistake.message: mistake for mistake in mistakes}
    statistics: list[tuple[Case, bool]] = []
    for case in cases:
        try:
            with left_as_found(device):
                cell, probe = _decide(case, device, networks, probed)
            texts = (*probe.mistakes, why_equal(case, probe.model, probe.sites.draws))
        except BaseException as error:
            raise_interrupt(error)
            mistake = build_mistake(case.label, error)
            by_message.setdefault(mistake.message, mistake)
            continue
        for text in filter(None, texts):
            by_message.setdefault(text, Mistake(f"variant {case.label}", text))
        if probe.error:
            errors[case.label] = probe.error
        else:
            probe_faults.look_at(case, probe.model, cell.steps)
        used.look_at(case, probe.model)
        statistics.append((case, probe.has_statistics or bool(probe.error or probe.mistakes)))
        layers.append(Layers(case.label, case.settings.model.name, case.settings.norm.name, probe.covered))
        ways = tuple(ways_asked(case)) if probe.has_statistics else ()
        texts = (
            why_unfilled(case, probe.shares),
            why_sees_later_tokens(case, probe.leaks, ways),
            why_padding_counts(case, probe.padded),
        )
        cells[case.label] = replace(cell, ways=ways, cautions=(*cell.cautions, *filter(None, texts)))
    for mistake in (*used.mistakes(), *probe_faults.mistakes()):
        by_message.setdefault(mistake.message, mistake)
    if absent := no_statistics(statistics):
        by_message.setdefault(absent.message, absent)
    for label, text in missing_biases(layers).items():
        cells[label] = cells[label].limited_by(text)
    return Rehearsal(cells, tuple(by_message.values()), errors, probe_faults.looked)


@dataclass(frozen=True)
class _Probe:
    """The findings on one network. covered: for every layer of weights, whether something shifts its output.

    has_statistics: whether layers infer with running statistics; looked at where the study asks. leaks: whether its
    outputs depend on later tokens. padded: whether they depend on padding.
    """

    model: nn.Module
    sites: Sites
    mistakes: tuple[str, ...]
    error: BaseException | None
    shares: tuple[tuple[Site, float], ...]
    covered: tuple[tuple[WeightLayer, bool], ...]
    has_statistics: bool = False
    leaks: ByMode = UNCHANGED
    padded: ByMode = UNCHANGED


#: The settings on which the findings on a network depend.
_PROBED = {
    "task", "loss", "model", "norm", "batch_size", "last_batch", "epochs", "steps", "init", "framework", "train",
}  # fmt: skip


def _decide(
    case: Case, device: torch.device, networks: Networks, probed: dict[str, _Probe]
) -> tuple[Cell, _Probe]:
    """The cell and the findings on its network. Raises where a part can't be built."""
    settings, backend = case.settings, backend_of(case.settings)
    check_classes(settings, case.sizes.num_outputs, case.num_train)
    model = networks.network(settings, case.sizes, case.seeds[0])
    make_optimizer(settings)(model)  # each of these checks its own options
    make_objective(settings)
    epoch = steps_per_epoch(case.num_train, settings.batch_size, settings.last_batch)
    if fault := warm_up_fault(settings, epoch):
        raise BnbenchError(fault, fix="a shorter warm-up, or more steps.")
    make_schedule(settings, settings.total_steps(epoch), epoch)
    backend.check(model, settings, device)
    if case.augmentation:
        case.augmentation.check(*case.samples(TRIAL), case.pixels)
    kept = settings.model_dump_json(include=_PROBED)
    key = f"{kept} {case.sizes} {case.num_train} {case.smallest_part}"
    if key not in probed:
        probed[key] = _probe(case, model)
    choice = backend.choose(model, settings, case.sizes, device)
    parameters, trained = count_parameters(model), count_trained(model)
    sequences = Sequences.of(model, settings.batch_size, case.sizes)
    cell = Cell(
        case.runs,
        choice,
        settings.total_steps(epoch),
        parameters,
        trained_parameters=trained if trained < parameters else None,
        positions=sequences.length if sequences else 1,
        network=said_of(model),
    )
    return cell, probed[key]


def _probe(case: Case, model: nn.Module) -> _Probe:
    sites = find_sites(model, case.inputs)
    if sites.error:  # perhaps at the number of samples: once more with the study's own
        sites = find_sites(model, case.inputs, max(case.batches()))
    different = {site.signature: site for site in sites.norms}.values()
    mistakes = [text for site in different if (text := why_alone(case, sites, site))]
    # the same for all widths: what is kept depends on the batches alone
    kinds = {(type(site.module), len(site.shape)): site for site in different}.values()
    shares = [] if mistakes or sites.error else [(site, share_left(case, site)) for site in kinds]
    layers = () if sites.error else tuple(sites.layers)
    covered = tuple((layer, is_covered(layer, model, case.inputs)) for layer in layers)
    mistakes += [text for layer in sites.layers if (text := why_one_weight(case, layer))]
    if not sites.error and (text := why_unfit(case, model)):
        mistakes.append(text)
    leaks = UNCHANGED if sites.error or mistakes else leaks_of(case, model)
    mistakes += [text] if (text := why_reads_the_answer(case, leaks)) else []
    padded = UNCHANGED if sites.error or mistakes else padding_of(case, model)
    if sites.draws:  # another length is another draw of what is dropped
        padded = replace(padded, training=False)
    error = None if mistakes else sites.error
    has_statistics, of_ways = (False, ()) if mistakes or error else judge_ways(case, model)
    return _Probe(
        model, sites, (*mistakes, *of_ways), error, tuple(shares), covered, has_statistics, leaks, padded
    )
