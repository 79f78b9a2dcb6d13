"""nanoGPT's train.py in small: globals, a configurator, one ckpt.pt in out_dir, and a seed that is written down."""

import os
import time

from tiny_training import Training, wait_at

out_dir = "out"
eval_interval = 10
log_interval = 5
always_save_checkpoint = False
init_from = "scratch"
learning_rate = 6e-4
max_iters = 600000
weight_decay = 1e-1
beta1 = 0.9
config_keys = [k for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float, bool, str))]
exec(open("nanogpt_configurator.py").read())
config = {k: globals()[k] for k in config_keys}

print("tokens per iteration will be: 16,384")
os.makedirs(out_dir, exist_ok=True)
training = Training(1337, learning_rate, momentum=beta1, weight_decay=weight_decay)
iter_num, best_val_loss = 0, 1e9
if init_from == "scratch":
    print("Initializing a new model from scratch")
elif init_from == "resume":
    print(f"Resuming training from {out_dir}")
    checkpoint = training.load(os.path.join(out_dir, "ckpt.pt"))
    iter_num, best_val_loss = checkpoint["iter_num"], checkpoint["best_val_loss"]
print("number of parameters: 0.80M")
print("num decayed parameter tensors: 18, with 802,944 parameters")
print("num non-decayed parameter tensors: 9, with 1,152 parameters")
first = iter_num
t0 = time.time()
while True:
    if iter_num % eval_interval == 0:
        val = training.valid()
        print(f"step {iter_num}: train loss {val * 0.9:.4f}, val loss {val:.4f}", flush=True)
        if val < best_val_loss or always_save_checkpoint:
            best_val_loss = val
            if iter_num > 0:
                print(f"saving checkpoint to {out_dir}", flush=True)
                training.save(
                    os.path.join(out_dir, "ckpt.pt"), iter_num=iter_num, best_val_loss=best_val_loss, config=config
                )
        wait_at(iter_num)
        time.sleep(0.05)
    loss = training.update()
    t1 = time.time()
    dt, t0 = t1 - t0, t1
    if iter_num % log_interval == 0:
        print(f"iter {iter_num}: loss {loss:.4f}, time {dt * 1000:.2f}ms, mfu {-100 + iter_num / 10:.2f}%", flush=True)
    iter_num += 1
    if iter_num > max_iters:
        break
