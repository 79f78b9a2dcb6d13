"""pytorch/examples' mnist/main.py in small: argparse, tabs, a test line without a step, mnist_cnn.pt; no way to go on."""

import argparse

from tiny_training import Training, wait_at

parser = argparse.ArgumentParser(description="PyTorch MNIST Example")
parser.add_argument(
    "--batch-size", type=int, default=64, metavar="N", help="input batch size for training (default: 64)"
)
parser.add_argument(
    "--test-batch-size", type=int, default=1000, metavar="N", help="input batch size for testing (default: 1000)"
)
parser.add_argument("--epochs", type=int, default=14, metavar="N", help="number of epochs to train (default: 14)")
parser.add_argument("--lr", type=float, default=1.0, metavar="LR", help="learning rate (default: 1.0)")
parser.add_argument("--gamma", type=float, default=0.7, metavar="M", help="Learning rate step gamma (default: 0.7)")
parser.add_argument("--no-accel", action="store_true", help="disables accelerator")
parser.add_argument("--dry-run", action="store_true", help="quickly check a single pass")
parser.add_argument("--seed", type=int, default=1, metavar="S", help="random seed (default: 1)")
parser.add_argument(
    "--log-interval", type=int, default=10, metavar="N", help="how many batches to wait before logging training status"
)
parser.add_argument("--save-model", action="store_true", help="For Saving the current Model")
args = parser.parse_args()
training = Training(args.seed, args.lr)
for epoch in range(1, args.epochs + 1):
    for batch in range(0, 40, args.log_interval):
        loss = training.epoch(10)
        done, share = batch * args.batch_size, 100.0 * batch / 40
        print(f"Train Epoch: {epoch} [{done}/2560 ({share:.0f}%)]\tLoss: {loss:.6f}", flush=True)
    right = round(10000 * training.right())
    print(
        f"\nTest set: Average loss: {training.valid():.4f}, Accuracy: {right}/10000 ({right / 100:.0f}%)\n", flush=True
    )
    training.lr *= args.gamma
    wait_at(epoch)
if args.save_model:
    training.save("mnist_cnn.pt")
