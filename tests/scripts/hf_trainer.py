"""A script of the Hugging Face Trainer: dicts by epochs, bars on stderr, checkpoint-N folders named by updates."""

import argparse
import json
import sys
from pathlib import Path

from tiny_training import Training, wait_at

UPDATES = 10  # of an epoch
parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)
parser.add_argument("--model_name_or_path", type=str, default=None, help="Path to pretrained model")
parser.add_argument("--output_dir", type=str, default="trainer_output", help="Where the checkpoints are written.")
parser.add_argument("--do_train", nargs="?", const=True, default=False, help="Whether to run training.")
parser.add_argument("--per_device_train_batch_size", type=int, default=8, help="Batch size per device.")
parser.add_argument("--learning_rate", type=float, default=5e-05, help="The initial learning rate for AdamW.")
parser.add_argument("--weight_decay", type=float, default=0.0, help="Weight decay for AdamW if we apply some.")
parser.add_argument("--num_train_epochs", type=float, default=3.0, help="Total number of training epochs.")
parser.add_argument("--max_steps", type=int, default=-1, help="If > 0: set total number of training steps.")
parser.add_argument("--logging_steps", type=float, default=500, help="Log every X updates steps.")
parser.add_argument("--seed", type=int, default=42, help="Random seed set at the beginning of training.")
parser.add_argument("--resume_from_checkpoint", type=str, default=None, help="The path to a folder with a checkpoint.")
args = parser.parse_args()
training = Training(args.seed, args.learning_rate, momentum=0.5, weight_decay=args.weight_decay)
total = round(args.num_train_epochs * UPDATES)
history: list[dict[str, float]] = []
first = 0
if args.resume_from_checkpoint:
    state = json.loads(Path(args.resume_from_checkpoint, "trainer_state.json").read_text())
    history, first = state["log_history"], state["global_step"]
    training.load(Path(args.resume_from_checkpoint, "model.safetensors"))
    print(f"Continuing training from global step {first}", file=sys.stderr)


def bar(done: int, of: int, end: str = "") -> None:
    part = 100 * done // of
    print(
        f"\r{part:3d}%|{'█' * (part // 10):10}| {done}/{of} [00:00<00:00, 91.31it/s]",
        end=end,
        file=sys.stderr,
        flush=True,
    )


def log(values: dict[str, float], update: int) -> None:
    history.append({**values, "step": update})
    print(values, flush=True)


for update in range(first, total, UPDATES):
    bar(update, total)
    loss = training.epoch(UPDATES)
    now, epoch = update + UPDATES, (update + UPDATES) / UPDATES
    bar(now, total)
    log({"loss": round(loss, 4), "grad_norm": 1.25, "learning_rate": args.learning_rate, "epoch": epoch}, now)
    bar(1, 1)
    log({"eval_loss": training.valid(), "eval_runtime": 0.01, "eval_samples_per_second": 6400.0, "epoch": epoch}, now)
    folder = Path(args.output_dir, f"checkpoint-{now}")
    folder.mkdir(parents=True, exist_ok=True)
    training.save(folder / "model.safetensors")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": now, "epoch": epoch, "log_history": history}))
    wait_at(round(epoch))
bar(total, total, end="\n")
print(
    {
        "train_runtime": 0.2,
        "train_samples_per_second": 640.0,
        "train_loss": round(loss, 4),
        "epoch": args.num_train_epochs,
    }
)
print(
    f"***** eval metrics *****\n  epoch                   =        {args.num_train_epochs}\n  eval_loss               =     {training.valid():.4f}"
)
