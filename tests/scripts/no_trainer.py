"""A no_trainer script of Hugging Face: accelerate's log lines on stderr, epochs from 0, a folder for each epoch."""

import argparse
import json
import logging
import sys
from pathlib import Path

from tiny_training import Training, wait_at

logger = logging.getLogger(__name__)
logging.basicConfig(
    format="%(asctime)s - %(levelname)s - %(name)s - %(message)s", datefmt="%m/%d/%Y %H:%M:%S", level=logging.INFO
)
parser = argparse.ArgumentParser(description="Finetune a transformers model on a text classification task (NO TRAINER)")
parser.add_argument("--model_name_or_path", type=str, help="Path to pretrained model.", required=True)
parser.add_argument("--learning_rate", type=float, default=5e-5, help="Initial learning rate to use.")
parser.add_argument("--weight_decay", type=float, default=0.0, help="Weight decay to use.")
parser.add_argument("--num_train_epochs", type=int, default=3, help="Total number of training epochs to perform.")
parser.add_argument("--output_dir", type=str, default=None, help="Where to store the final model.")
parser.add_argument("--seed", type=int, default=None, help="A seed for reproducible training.")
parser.add_argument("--checkpointing_steps", type=str, default=None, help="'n' or 'epoch': when to save the states.")
parser.add_argument(
    "--resume_from_checkpoint", type=str, default=None, help="If the training should continue from a checkpoint folder."
)
args = parser.parse_args()
logger.info("Distributed environment: DistributedType.NO\nNum processes: 1\nDevice: cpu\n")
training = Training(args.seed or 0, args.learning_rate, momentum=0.5, weight_decay=args.weight_decay)
first = 0
if args.resume_from_checkpoint:
    print(f"Resumed from checkpoint: {args.resume_from_checkpoint}")
    first = int(Path(args.resume_from_checkpoint).name.removeprefix("epoch_")) + 1
    training.load(Path(args.resume_from_checkpoint, "model.safetensors"))
logger.info("***** Running training *****")
logger.info("  Num Epochs = %d", args.num_train_epochs)
logger.info("  Total optimization steps = %d", 10 * args.num_train_epochs)
for epoch in range(first, args.num_train_epochs):
    training.epoch(10)
    print(
        f"\r{10 * epoch + 10}/{10 * args.num_train_epochs} [00:00<00:00, 88.1it/s]", end="", file=sys.stderr, flush=True
    )
    eval_metric = {"accuracy": training.right(), "mse": training.valid()}
    logger.info(f"epoch {epoch}: {eval_metric}")
    if args.checkpointing_steps == "epoch" and args.output_dir:
        folder = Path(args.output_dir, f"epoch_{epoch}")
        folder.mkdir(parents=True, exist_ok=True)
        training.save(folder / "model.safetensors")
    wait_at(epoch)
if args.output_dir:
    Path(args.output_dir, "all_results.json").write_text(json.dumps({"eval_accuracy": training.right()}))
