"""A study whose runs train on several processes each (torchrun): its plan, and the processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnbench.base.errors import Mistake, UsageError
from bnbench.base.ranks import START, World
from bnbench.base.user_code import raise_interrupt
from bnbench.study import Settings, Study
from bnbench.study.labels import cell_label

if TYPE_CHECKING:
    import torch

    from bnbench.api.session import Options
    from bnbench.data import Sizes
    from bnbench.engine.cell import Cell
    from bnbench.engine.networks import Networks
    from bnbench.engine.ranks.lead import Team
    from bnbench.engine.schedule import Options as TrainingOptions


#: Whether this process is the command line's, which lets the other processes follow.
_leads = False


def lead() -> None:
    """State that the other processes of this command follow this one."""
    global _leads
    _leads = True


def check_options(world: World, options: Options) -> None:
    """Raises UsageError for what does not go with one run on several processes."""
    if not world.several:
        return
    if not _leads:
        raise UsageError(
            f"a Python program that torchrun started calls bnbench in one of {world.size} processes.",
            "Each of them would train the whole study, and write to the same folder.",
            START,
        )
    given = []
    if options.jobs is not None:
        given.append(f"--jobs {options.jobs}")
    if options.running.executor != "local":
        given.append(f"--executor {options.running.executor}")
    if given:
        raise UsageError(
            f"{' and '.join(given)}: under torchrun, whose {world.size} processes train each run together.",
            "Runs then train one after the other, without further workers.",
            f"leave {' and '.join(given)} out; or bnbench compare, without torchrun.",
        )


def mistakes_on(study: Study, world: World) -> list[Mistake]:
    """What of a study can't be trained on these processes."""
    if not world.several:
        return []
    from bnbench.engine.ranks.plan import mistakes_on_ranks

    return mistakes_on_ranks(
        [(cell_label(cell.variant, cell.setting), cell.settings) for cell in study.cells], world
    )


def cells_on(cells: Mapping[str, Cell], world: World) -> Mapping[str, Cell]:
    """The cells as these processes train them."""
    if not world.several:
        return cells
    from bnbench.engine.ranks.plan import cells_on_ranks

    return cells_on_ranks(cells, world)


def facts_on(settings: Settings, sizes: Sizes, world: World, networks: Networks, seed: int) -> dict[str, Any]:
    """The number of processes that train a run, where it changes the numbers: it then identifies the run, too."""
    if not world.several or settings.framework != "torch":
        return {}
    from bnbench.engine.ranks.plan import facts_on_ranks

    try:
        network = networks.network(settings, sizes, seed)
    except BaseException as error:  # the rehearsal reports it
        raise_interrupt(error)
        return {}
    return facts_on_ranks(network, settings, sizes, world)


def team_for(training: TrainingOptions, options: Options, device: torch.device, world: World) -> Team | None:
    """The processes, ready to train; None for one process. Raises RankError where they are not there."""
    if not world.several:
        return None
    from bnbench.engine.ranks.lead import team_of

    team = team_of(world)
    team.load(training.prepare, options.data_dir, device, training.debug)
    return team
