"""pytorch/examples' imagenet/main.py in small: meters, epochs from 0, checkpoint.pth.tar and a copy of the best."""

import argparse
import os
import random
import shutil
import warnings

from tiny_training import Training, wait_at

parser = argparse.ArgumentParser(description="PyTorch ImageNet Training")
parser.add_argument("data", metavar="DIR", nargs="?", default="imagenet", help="path to dataset (default: imagenet)")
parser.add_argument(
    "-a",
    "--arch",
    metavar="ARCH",
    default="resnet18",
    choices=["alexnet", "resnet18"],
    help="model architecture: alexnet | resnet18 (default: resnet18)",
)
parser.add_argument(
    "-j", "--workers", default=4, type=int, metavar="N", help="number of data loading workers (default: 4)"
)
parser.add_argument("--epochs", default=90, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("--start-epoch", default=0, type=int, metavar="N", help="manual epoch number (useful on restarts)")
parser.add_argument("-b", "--batch-size", default=256, type=int, metavar="N", help="mini-batch size (default: 256)")
parser.add_argument(
    "--lr", "--learning-rate", default=0.1, type=float, metavar="LR", help="initial learning rate", dest="lr"
)
parser.add_argument("--momentum", default=0.9, type=float, metavar="M", help="momentum")
parser.add_argument(
    "--wd",
    "--weight-decay",
    default=1e-4,
    type=float,
    metavar="W",
    help="weight decay (default: 1e-4)",
    dest="weight_decay",
)
parser.add_argument("-p", "--print-freq", default=10, type=int, metavar="N", help="print frequency (default: 10)")
parser.add_argument("--resume", default="", type=str, metavar="PATH", help="path to latest checkpoint (default: none)")
parser.add_argument("-e", "--evaluate", dest="evaluate", action="store_true", help="evaluate model on validation set")
parser.add_argument("--seed", default=None, type=int, help="seed for initializing training. ")
args = parser.parse_args()
if args.seed is not None:
    warnings.warn("You have chosen to seed training. This will turn on the CUDNN deterministic setting.", stacklevel=1)
print(f"=> creating model '{args.arch}'")
seed = random.randrange(2**31) if args.seed is None else args.seed
training = Training(seed, args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
best_acc1 = 0.0
if args.resume:
    if os.path.isfile(args.resume):
        print(f"=> loading checkpoint '{args.resume}'")
        checkpoint = training.load(args.resume)
        args.start_epoch, best_acc1 = checkpoint["epoch"], checkpoint["best_acc1"]
        print(f"=> loaded checkpoint '{args.resume}' (epoch {checkpoint['epoch']})")
    else:
        print(f"=> no checkpoint found at '{args.resume}'")


def meters(batch: int, of: int, loss: float, acc1: float) -> str:
    times = "Time  0.012 ( 0.012)\tData  0.001 ( 0.001)"
    return f"[{batch:2d}/{of}]\t{times}\tLoss {loss:.4e} ({loss:.4e})\tAcc@1 {acc1:6.2f} ({acc1:6.2f})"


for epoch in range(args.start_epoch, args.epochs):
    for batch in range(1, 21, args.print_freq):
        loss = training.epoch(args.print_freq)
        print(f"Epoch: [{epoch}]{meters(batch, 20, loss, 100 * training.right())}", flush=True)
    acc1 = 100 * training.right()
    print(f"Test: {meters(1, 2, training.valid(), acc1)}")
    print(f" *   Acc@1 {acc1:.3f} Acc@5 {(100 + acc1) / 2:.3f}", flush=True)
    is_best, best_acc1 = acc1 > best_acc1, max(acc1, best_acc1)
    training.save("checkpoint.pth.tar", epoch=epoch + 1, best_acc1=best_acc1)
    if is_best:
        shutil.copyfile("checkpoint.pth.tar", "model_best.pth.tar")
    wait_at(epoch)
