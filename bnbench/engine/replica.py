"""One run in training, whichever engine makes its steps: its history, its best weights and its record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from bnbench.data.augmentations import augmentation_of
from bnbench.data.batches import last_batch_note
from bnbench.data.class_batches import class_batches
from bnbench.data.prepared import Prepared
from bnbench.engine.choose import count_parameters
from bnbench.engine.evaluate import Measured
from bnbench.engine.inference import Evaluation
from bnbench.engine.outcome import outcome_of
from bnbench.engine.own import said_of
from bnbench.engine.sheets import sheets
from bnbench.optim.trained import count_trained
from bnbench.study import Settings, cautions_of
from bnbench.study.events import Evaluated, RunEnded
from bnbench.study.layer_names import label_of, network_name
from bnbench.study.plan import RunSpec
from bnbench.study.records import HistoryRow, Outcome, RunRecord
from bnbench.tasks import task_of


class Replica:
    """One run: its model, which a stepper changes, and its measurements so far.

    step_losses: (planned steps,), filled by the loop. evaluate: measures the model.
    """

    def __init__(
        self,
        run: RunSpec,
        model: nn.Module,
        data: Prepared,
        step_losses: Tensor,
        steps_per_epoch: int,
        evaluate: Evaluation,
    ) -> None:
        self.run, self.model, self.data, self.settings = run, model, data, run.settings
        self.step_losses, self.steps_per_epoch = step_losses, steps_per_epoch
        self.evaluate = evaluate
        self.history: list[HistoryRow] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        #: Where it went on from a kept state: of training and of probes up to there.
        self.seconds_before, self.probe_seconds_before = 0.0, 0.0

    def kept(self, step: int) -> dict[str, Any]:
        """Its measurements after `step`."""
        history = [
            (row.step, row.epoch, row.train_seconds, row.batch_loss, dict(row.metrics))
            for row in self.history
        ]
        return {"history": history, "best": self.best, "step_losses": self.step_losses[:step].clone()}

    def put_back(self, kept: Mapping[str, Any]) -> None:
        """Go on from these measurements."""
        device = self.step_losses.device
        self.history = [HistoryRow(*row) for row in kept["history"]]
        self.step_losses[: len(kept["step_losses"])].copy_(kept["step_losses"])
        self.best = kept["best"] and (
            *kept["best"][:2], {name: value.to(device) for name, value in kept["best"][2].items()}
        )  # fmt: skip

    def evaluated(self, step: int, seconds: float) -> Evaluated:
        """Evaluate on the training probe and the validation part; keep the best weights so far."""
        # a plain dict: events carry no class of the engine
        metrics = dict(self.evaluate(self.model, ("train", "val")))
        since = self.history[-1].step if self.history else 0
        batch_loss = float(self.step_losses[since:step].mean()) if step > since else None
        row = HistoryRow(step, step / self.steps_per_epoch, seconds, batch_loss, metrics)
        self.history.append(row)
        val_loss = metrics["val_loss"]
        if step and math.isfinite(val_loss) and (self.best is None or val_loss < self.best[0]):
            self.best = (val_loss, step, _copied(self.model))
        return Evaluated(self.run, row)

    def ended(
        self,
        step: int,
        seconds: float,
        environment: Mapping[str, Any],
        notes: tuple[str, ...],
        layers: tuple[str, ...],
    ) -> RunEnded:
        """The run is over: its record and its last weights. notes: on its training, after those on its data."""
        final, weights = self._all_metrics(step), _copied(self.model)
        images, faults = sheets(self.evaluate, self.model)
        best, best_step = final, step
        by_way = best_by_way = self.evaluate.by_way(self.model)
        if self.best and self.best[1] != step:
            _, best_step, best_weights = self.best
            self.model.load_state_dict(best_weights)
            best, best_by_way = self._all_metrics(best_step), self.evaluate.by_way(self.model)
            self.model.load_state_dict(weights)
        parameters, trained = count_parameters(self.model), count_trained(self.model)
        record = RunRecord(
            **self._identity(),
            **self._data_facts(),
            outcome=self._outcome(step, final),
            steps=step,
            planned_steps=len(self.step_losses),
            steps_per_epoch=self.steps_per_epoch,
            train_seconds=seconds,
            num_parameters=parameters,
            trained_parameters=trained if trained < parameters else None,
            final=dict(final),
            best=dict(best),
            best_step=best_step,
            inference=by_way,
            inference_best=best_by_way,
            history=tuple(self.history),
            step_losses=tuple(self.step_losses[:step].tolist()),
            notes=(*self.notes(), *notes, *faults),
            layers=layers,
            environment=environment,
        )
        return RunEnded(self.run, record, _as_arrays(weights), final.samples, sheets=images)

    def _outcome(self, step: int, final: Mapping[str, float]) -> Outcome:
        """Whether the run trained, judged by its losses and by its model as it is now."""
        losses, task = self.step_losses[:step], task_of(self.data.task)
        return outcome_of(self.history, final, losses, self.model, task, self.data)

    def _identity(self) -> dict[str, Any]:
        run = self.run
        return {
            "variant": run.variant,
            "setting": run.setting,
            "seed": run.seed,
            "cell": run.cell,
            "norm": label_of(self.settings.norm.name),
        }

    def _data_facts(self) -> dict[str, Any]:
        return {
            "cautions": (*self.data.cautions, *cautions_of(self.settings, self.steps_per_epoch)),
            "num_samples": self._num_samples(),
            "class_counts": self.data.class_counts(),
            "class_names": self.data.class_names,
        }

    def _all_metrics(self, step: int) -> Measured:
        """Every metric of the model as it is after `step`. What the history has already is not measured again."""
        known = next((row.metrics for row in self.history if row.step == step), None)
        if known is None:
            return self.evaluate(self.model, ("train", "val", "test", *self.data.test_sets))
        test = self.evaluate(self.model, ("test", *self.data.test_sets))
        metrics = Measured({**known, **test})
        metrics.samples = test.samples
        return metrics

    def notes(self) -> tuple[str, ...]:
        """Remarks on the data and its batches, for the user."""
        note = last_batch_note(
            len(self.data.train_targets), self.settings.batch_size, self.settings.last_batch
        )
        drawn = class_batches(self.settings, self.data.train_targets)
        others = drawn.note(self.settings.seed_of("order", self.run.seed)) if drawn else None
        of_batches = [text for text in (note, others) if text]
        own = said_of(self.model)
        model = self.settings.model
        name = network_name({"name": model.name, **model.options})
        of_network = [f"{self.run.variant}: {name}: {own}"] if own else []
        return (
            *notes_on_data(self.data, self.settings),
            *of_batches,
            *of_network,
            *self._note_on_parameters(),
        )

    def _note_on_parameters(self) -> Iterator[str]:
        """How many parameters learn, where the study asks for some of them."""
        if self.settings.train == "all":
            return
        which = {"norm": "gamma and beta of the normalizers", "head": "those of the last layer"}
        trained, number = count_trained(self.model), count_parameters(self.model)
        yield (
            f"{self.run.variant}: train: {self.settings.train}: {trained:,} of {number:,} parameters learn, "
            f"{which[self.settings.train]}"
        )

    def _num_samples(self) -> dict[str, int]:
        full_batches = self.steps_per_epoch * self.settings.batch_size
        train = len(self.data.train_targets)
        return {
            "train": min(train, full_batches) if self.settings.last_batch == "drop" else train,
            "val": len(self.data.val_targets),
            "test": len(self.data.test_targets),
            **{name: len(targets) for name, (_, targets) in self.data.test_sets.items()},
        }


def notes_on_data(data: Prepared, settings: Settings) -> tuple[str, ...]:
    """Remarks on the data and its augmentation, for the user."""
    augmentation = augmentation_of(settings.augment)
    if augmentation:
        augmentation.check_data(data)
    note = augmentation.remark(data.input_shape) if augmentation else None
    return (*data.notes, *([note] if note else []))


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _as_arrays(weights: Mapping[str, Tensor]) -> dict[str, object]:
    """A state_dict as NumPy arrays: no room behind the engine imports torch."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in weights.items()}
