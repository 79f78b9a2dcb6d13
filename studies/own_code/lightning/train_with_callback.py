"""The same training, recorded by tunectl's callback: without a logger, with every metric that Lightning logs."""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
from train import Perceptron

from tunectl.exchange.lightning_callback import TunectlCallback


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--max-steps", type=int, default=100)
    args = parser.parse_args()
    lightning.seed_everything(0)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train, valid = torch.utils.data.random_split(data, [1400, 397], generator=torch.Generator().manual_seed(1))
    trainer = lightning.Trainer(
        max_steps=args.max_steps,
        max_epochs=-1,
        val_check_interval=20,
        check_val_every_n_epoch=None,
        accelerator="auto",
        devices=1,
        logger=False,
        callbacks=[TunectlCallback()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Perceptron(32, args.lr), DataLoader(train, 64, shuffle=True), DataLoader(valid, 397))


if __name__ == "__main__":
    main()
