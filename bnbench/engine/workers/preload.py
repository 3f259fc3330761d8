"""What a worker needs, loaded ahead in the process that workers are forked from."""

from bnbench.data import datasets
from bnbench.models import models
from bnbench.norms import norms
from bnbench.optim import losses, optimizers, schedules

for _registry in (datasets, models, norms, optimizers, schedules, losses):
    _registry.names()
