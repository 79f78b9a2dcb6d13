"""A Lightning script as people write them: it logs to CSV files and knows nothing of tunectl."""

import argparse

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Perceptron(lightning.LightningModule):
    def __init__(self, width, lr):
        super().__init__()
        self.lr = lr
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

    def training_step(self, batch, _):
        loss = torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        logits = self.layers(batch[0])
        self.log("val_loss", torch.nn.functional.cross_entropy(logits, batch[1]))
        self.log("val_error", (logits.argmax(1) != batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out")
    args = parser.parse_args()
    lightning.seed_everything(args.seed)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train, valid = torch.utils.data.random_split(data, [1400, 397], generator=torch.Generator().manual_seed(1))
    trainer = lightning.Trainer(
        max_steps=args.max_steps,
        max_epochs=-1,
        val_check_interval=20,
        check_val_every_n_epoch=None,
        log_every_n_steps=20,
        accelerator="auto",
        devices=1,
        logger=CSVLogger(args.out, name="logs"),
        callbacks=[ModelCheckpoint(args.out, filename="{step}", save_top_k=-1, every_n_train_steps=20)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Perceptron(args.width, args.lr), DataLoader(train, 64, shuffle=True), DataLoader(valid, 397))


if __name__ == "__main__":
    main()
