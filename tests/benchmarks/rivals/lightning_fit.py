"""Rival: Lightning's Trainer.

Form: lightning.ai, "Lightning in 15 minutes" and the pages on validation: a LightningModule with
training_step, validation_step (two loaders: validation part and training probe), test_step and
configure_optimizers; Trainer.fit and Trainer.test.
Tuned (default): progress bar, logger, checkpoints, model summary and sanity check off, as the Trainer's docs
offer; data in memory as a TensorDataset that is read a batch at a time (sampler=BatchSampler,
batch_size=None; torch.utils.data, "Disable automatic batching"); Adam(fused=True); evaluation in batches of 1000.
With --defaults nothing is switched off, and the loaders and Adam are the plain ones.
"""

from __future__ import annotations

import logging
import tempfile
import warnings

import lightning
import shared
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from torch_model import mlp

OFF = {
    "enable_progress_bar": False,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class Classifier(lightning.LightningModule):
    def __init__(self, variant: str, fused: bool) -> None:
        super().__init__()
        self.model, self.fused = mlp(variant), fused
        self.accuracies = {"val": [], "probe": []}

    def training_step(self, batch, batch_idx):
        x, y = batch
        return cross_entropy(self.model(x), y)

    def _evaluate(self, batch, name: str) -> None:
        x, y = batch
        logits = self.model(x)
        values = {
            f"{name}_loss": cross_entropy(logits, y),
            f"{name}_accuracy": (logits.argmax(1) == y).float().mean(),
        }
        self.log_dict(values, batch_size=len(y), add_dataloader_idx=False)

    def validation_step(self, batch, batch_idx, dataloader_idx=0) -> None:
        self._evaluate(batch, ("val", "probe")[dataloader_idx])

    def test_step(self, batch, batch_idx) -> None:
        self._evaluate(batch, "test")

    def on_train_epoch_end(self) -> None:
        for name, values in self.accuracies.items():
            values.append(float(self.trainer.callback_metrics[f"{name}_accuracy"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=shared.LEARNING_RATE, fused=self.fused or None)


def training_loader(data: TensorDataset, defaults: bool) -> DataLoader:
    if defaults:
        return DataLoader(data, batch_size=shared.BATCH_SIZE, shuffle=True)
    batches = BatchSampler(RandomSampler(data), shared.BATCH_SIZE, drop_last=False)
    return DataLoader(data, sampler=batches, batch_size=None)


def main() -> None:
    warnings.filterwarnings("ignore")  # advice on num_workers and logging
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    args = shared.arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = {
        name: TensorDataset(torch.from_numpy(images), torch.from_numpy(labels).long())
        for name, (images, labels) in shared.floats(args).items()
    }
    train_loader = training_loader(data["train"], args.defaults)
    val, probe, test = (
        DataLoader(data[name], batch_size=shared.EVAL_BATCH) for name in ("val", "probe", "test")
    )

    def train(variant: str, seed: int) -> shared.Run:
        lightning.seed_everything(seed, verbose=False)
        model = Classifier(variant, fused=not args.defaults)
        with tempfile.TemporaryDirectory() as folder:
            trainer = lightning.Trainer(
                accelerator="cpu",
                max_epochs=args.epochs,
                default_root_dir=folder,
                **({} if args.defaults else OFF),
            )
            trainer.fit(model, train_loader, [val, probe])
            result = trainer.test(model, test, verbose=args.defaults)[0]
        steps, seen = trainer.global_step, model.accuracies
        return shared.Run(steps, seen["val"], seen["probe"], float(result["test_accuracy"]))

    runs = shared.each_run(args, train)
    shared.report(runs, torch=str(torch.__version__), lightning=lightning.__version__)


if __name__ == "__main__":
    main()
