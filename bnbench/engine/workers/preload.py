"""What a worker needs, loaded ahead in the process that workers are forked from."""

from bnbench.base.kinds import KINDS

for _kind in KINDS:
    _kind.registry().names()
