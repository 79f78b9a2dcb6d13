"""A program for torchrun: one step of data-parallel training on each device, which says what it sees."""

from __future__ import annotations

import json
import os

import torch
from torch import distributed

on_gpu = torch.cuda.is_available()
distributed.init_process_group("nccl" if on_gpu else "gloo")
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
torch.manual_seed(int(os.environ["TUNECTL_TRIAL_SEED"]) % 2**31)
model = torch.nn.parallel.DistributedDataParallel(
    torch.nn.Linear(8, 1).to(device), device_ids=[device.index] if on_gpu else None
)
optimizer = torch.optim.SGD(model.parameters(), lr=float(os.environ["TUNECTL_LEARNING_RATE"]))
for step in range(1, 11):
    loss = model(torch.randn(16, 8, device=device)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if distributed.get_rank() == 0:
        seen = {"devices": torch.cuda.device_count(), "ranks": distributed.get_world_size()}
        print(json.dumps({"step": step, "valid/loss": loss.item(), **seen}), flush=True)
distributed.destroy_process_group()
