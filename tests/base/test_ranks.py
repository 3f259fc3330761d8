"""What the environment of torchrun states, and what it lacks; noise and parts of a batch."""

from __future__ import annotations

import pytest
import torch

from bnbench.base.errors import UsageError
from bnbench.base.ranks import Rows, World, own_part, set_rows, whole_shape, world_of

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_torchrun_states_a_world() -> None:
    assert world_of(WHOLE) == World(1, 2, 1)
    assert world_of({**WHOLE, "LOCAL_RANK": "0"}) == World(1, 2, 0)


@pytest.mark.parametrize("environment", [{}, {"MASTER_PORT": "1"}, {**WHOLE, "WORLD_SIZE": "1", "RANK": "0"}])
def test_one_process(environment: dict[str, str]) -> None:
    assert not world_of(environment).several


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "0"}, "RANK=0: set in the environment, and WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not."),
        ({name: WHOLE[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}, "and MASTER_ADDR is not."),
        ({**WHOLE, "RANK": "2"}, "RANK=2, WORLD_SIZE=2"),
        ({**WHOLE, "RANK": "one"}, "RANK=one: not a whole number."),
        ({**WHOLE, "MASTER_PORT": "70000"}, "MASTER_PORT=70000"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as raised:
        world_of(environment)
    assert says in raised.value.what
    assert raised.value.exit_code == 2


def test_a_part_of_the_noise_of_the_whole_batch() -> None:
    assert whole_shape((3, 2)) == (3, 2)
    set_rows(Rows(1, 3, 5))
    try:
        noise = torch.arange(10).view(whole_shape((2, 2)))
        assert noise[own_part(2)].tolist() == [[2, 3], [4, 5]]
        assert whole_shape((6, 4)) == (15, 4)  # three positions of each sample beside each other
        assert own_part(6) == slice(3, 9)
    finally:
        set_rows(None)
