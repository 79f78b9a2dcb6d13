"""A plain PyTorch script: it trains a perceptron on handwritten digits and knows nothing of tunectl."""

import argparse

import torch
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
parser.add_argument("--momentum", type=float, default=0.9, help="momentum of SGD")
parser.add_argument("--wd", type=float, default=0.0, help="weight decay")
parser.add_argument("--width", type=int, default=64, help="units of the hidden layer")
parser.add_argument("--nesterov", action="store_true", help="Nesterov's momentum")
parser.add_argument("--steps", type=int, default=500, help="number of updates")
parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
parser.add_argument("--out", default=".", help="folder for checkpoints")
args = parser.parse_args()

torch.manual_seed(args.seed)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32) / 16
labels = torch.tensor(labels)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
train, valid = order[:1400], order[1400:]

model = torch.nn.Sequential(torch.nn.Linear(64, args.width), torch.nn.ReLU(), torch.nn.Linear(args.width, 10))
optimizer = torch.optim.SGD(
    model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.wd, nesterov=args.nesterov
)
for step in range(1, args.steps + 1):
    batch = train[torch.randint(len(train), (64,))]
    loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        with torch.no_grad():
            wrong = (model(images[valid]).argmax(1) != labels[valid]).float().mean()
        print(f"step {step}: train loss {loss:.4f}, valid error {wrong:.4f}")
        torch.save(model.state_dict(), f"{args.out}/model-{step}.pt")
