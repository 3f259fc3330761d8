"""One training loop. It yields events, and knows no files and no screen."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bnbench.data.batches import (
    Augmentation,
    Prepared,
    augment,
    epoch_order,
    last_batch_note,
    steps_per_epoch,
)
from bnbench.engine.build import build_model, layer_list
from bnbench.engine.device import environment, forked_random_state, synchronize, use_threads
from bnbench.engine.evaluate import evaluate, no_better_than_chance
from bnbench.optim import losses, optimizers, schedules
from bnbench.plan import (
    Evaluated,
    Event,
    HistoryRow,
    Outcome,
    RunEnded,
    RunRecord,
    RunSpec,
    RunStarted,
    Stepped,
)
from bnbench.seeding import derive, generator

#: Steps between two looks at whether the loss is still finite (a look waits for the device).
CHECK_EVERY = 50
#: Seconds between two Stepped events.
TICK_SECONDS = 0.2


def train(run: RunSpec, data: Prepared, augmentation: Augmentation, device: torch.device) -> Iterator[Event]:
    """Train one run from its seed to its record.

    augmentation: "none" or "crop_flip". The same run on the same machine with the same versions
    gives the same bits.
    """
    with forked_random_state(device):
        torch.manual_seed(derive(run.seed, "layers"))  # for what a user's own layer draws in training
        yield from Training(run, data, augmentation, device).events()


class Training:
    """The state of one run."""

    def __init__(
        self, run: RunSpec, data: Prepared, augmentation: Augmentation, device: torch.device
    ) -> None:
        settings = run.settings
        self.run, self.data, self.settings, self.device = run, data, settings, device
        self.augmentation = augmentation
        self.model = build_model(settings, data.input_shape, data.num_classes, run.seed).to(device)
        use_threads(self.model, settings.batch_size)
        self.steps_per_epoch = steps_per_epoch(
            len(data.train_labels), settings.batch_size, settings.last_batch
        )
        self.planned_steps = self.steps_per_epoch * settings.epochs
        self.objective = losses.get(settings.loss.name).factory(**settings.loss.options)
        self.optimizer = optimizers.get(settings.optimizer.name).factory(
            self.model, **settings.optimizer.options
        )
        self.lr_factor = schedules.get(settings.schedule.name).factory(
            self.planned_steps, self.steps_per_epoch, **settings.schedule.options
        )
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.step_losses = torch.zeros(self.planned_steps, device=device)
        self.history: list[HistoryRow] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.clock = _Stopwatch(device)

    def events(self) -> Iterator[Event]:
        """The run, event by event."""
        yield RunStarted(self.run, self.planned_steps, self.settings.epochs, self._notes())
        yield self._evaluated(0)
        step, shown = 0, time.monotonic()
        self.clock.start()
        for images, labels in self.batches():
            self.step_losses[step] = self.train_step(step, images, labels)
            step += 1
            if self._evaluation_is_due(step):
                self.clock.stop()
                yield self._evaluated(step)
                self.clock.start()
            elif time.monotonic() - shown > TICK_SECONDS:
                self.clock.stop()
                yield Stepped(self.run, step)
                self.clock.start()
                shown = time.monotonic()
            if self._went_wrong(step):
                break
        self.clock.stop()
        yield RunEnded(self.run, self._record(step), _plain(self.model.state_dict()))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of every step, in order, augmented."""
        data, settings, seed = self.data, self.settings, self.run.seed
        for epoch in range(settings.epochs):
            draw = generator(seed, "augment", epoch)
            order = epoch_order(len(data.train_labels), settings.batch_size, seed, epoch, settings.last_batch)
            for index in order:
                index = index.to(self.device)
                images = augment(data.train_images.index_select(0, index), self.augmentation, draw)
                yield images, data.train_labels.index_select(0, index)

    def train_step(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """One optimizer update; the batch's objective before it, a scalar on the device."""
        factor = self.lr_factor(step)
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss: Tensor = self.objective(self.model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def _evaluation_is_due(self, step: int) -> bool:
        every = self.settings.evaluate_every
        interval = self.steps_per_epoch if every == "epoch" else every
        return step % interval == 0 or step == self.planned_steps

    def _evaluated(self, step: int) -> Evaluated:
        """Evaluate on the training probe and the validation part; keep the best weights so far."""
        metrics = evaluate(self.model, self.data, ("train", "val"))
        since = self.history[-1].step if self.history else 0
        batch_loss = float(self.step_losses[since:step].mean()) if step > since else None
        row = HistoryRow(step, step / self.steps_per_epoch, self.clock.seconds, batch_loss, metrics)
        self.history.append(row)
        val_loss = metrics["val_loss"]
        if step and math.isfinite(val_loss) and (self.best is None or val_loss < self.best[0]):
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.best = (val_loss, step, weights)
        return Evaluated(self.run, row)

    def _went_wrong(self, step: int) -> bool:
        """Looked at every CHECK_EVERY steps and at every evaluation, so that the answer is reproducible."""
        if step % CHECK_EVERY and self.history[-1].step != step:
            return False
        return not bool(self.step_losses[max(0, step - 2 * CHECK_EVERY) : step].isfinite().all())

    def _record(self, step: int) -> RunRecord:
        final = evaluate(self.model, self.data, ("train", "val", "test"))
        final_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        best, best_step = final, step
        if self.best and self.best[1] != step:
            _, best_step, weights = self.best
            self.model.load_state_dict(weights)
            best = evaluate(self.model, self.data, ("train", "val", "test"))
            self.model.load_state_dict(final_weights)
        run = self.run
        return RunRecord(
            variant=run.variant,
            setting=run.setting,
            seed=run.seed,
            cell=run.cell,
            norm=self.settings.norm.name,
            outcome=self._outcome(step, final),
            steps=step,
            planned_steps=self.planned_steps,
            steps_per_epoch=self.steps_per_epoch,
            train_seconds=self.clock.seconds,
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            final=final,
            best=best,
            best_step=best_step,
            history=tuple(self.history),
            step_losses=tuple(self.step_losses[:step].tolist()),
            notes=self._notes(),
            layers=layer_list(self.model),
            environment=environment(self.device),
            num_samples=self._num_samples(),
        )

    def _outcome(self, step: int, final: Mapping[str, float]) -> Outcome:
        finite = math.isfinite(final["val_loss"]) and bool(self.step_losses[:step].isfinite().all())
        if not finite or no_better_than_chance(final, self.data.val_labels):
            return "diverged"
        return "finished"

    def _num_samples(self) -> dict[str, int]:
        full_batches = self.steps_per_epoch * self.settings.batch_size
        train = len(self.data.train_labels)
        return {
            "train": min(train, full_batches),  # an epoch leaves out what `last_batch: drop` drops
            "val": len(self.data.val_labels),
            "test": len(self.data.test_labels),
        }

    def _notes(self) -> tuple[str, ...]:
        note = last_batch_note(
            len(self.data.train_labels), self.settings.batch_size, self.settings.last_batch
        )
        return (*self.data.notes, *([note] if note else []))


class _Stopwatch:
    """Adds up the seconds between start and stop; waits for the device at both ends."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self._since = device, 0.0, 0.0

    def start(self) -> None:
        synchronize(self.device)
        self._since = time.perf_counter()

    def stop(self) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._since


def _plain(weights: Mapping[str, Tensor]) -> dict[str, object]:
    """A state_dict as NumPy arrays: what comes after the engine knows no torch."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in weights.items()}
