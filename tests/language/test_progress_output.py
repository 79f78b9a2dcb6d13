"""Bars, timers, throughput, memory and counters in a sample are no metrics; what is one beside them is."""

from __future__ import annotations

import time

import pytest
from each_case import each_case

from tunectl.core.progress_bars import behind_bar, without_bars
from tunectl.drafting.sample_lines import read_sample
from tunectl.language.progress_output import is_metric, measures

FULL = "█" * 10
OBJECT = "{'eval_loss': 0.5, 'epoch': 1.0}\n"
LINE = "step 100: val_loss 0.5\nstep 200: val_loss 0.4\n"
SAMPLES: dict[str, tuple[str, set[str]]] = {
    "map of datasets": (f"Map: 100%|{FULL}| 400/400 [00:00<00:00, 5123.00 examples/s]\n{OBJECT}", {"eval_loss"}),
    "map with processes": (f"Map (num_proc=4):  45%|████▌     | 180/400 [00:00<00:00, 5123.00 examples/s]\n{OBJECT}", {"eval_loss"}),
    "download": (f"Downloading: 100%|{FULL}| 570/570 [00:00<00:00, 500kB/s]\n{LINE}", {"val_loss"}),
    "split": (f"Generating train split: 100 examples [00:00, 2000.55 examples/s]\n{LINE}", {"val_loss"}),
    "weights": (f"model.safetensors: 100%|{FULL}| 440M/440M [00:05<00:00, 80.1MB/s]\n{LINE}", {"val_loss"}),
    "ascii bar": (f"Score:  50%|#####     | 2/4 [00:01<00:01,  1.9it/s]\n{LINE}", {"val_loss"}),
    "bar without room": (f"mAP:  50% 2/4 [00:01<00:01,  1.9it/s]\n{OBJECT}", {"eval_loss"}),
    "bar alone": (f"Error check: 100%|{FULL}|\n{OBJECT}", {"eval_loss"}),
    "bar of a name that is a metric's": (f"Return: 100%|{FULL}| 4/4 [00:01<00:00, 3.5it/s]\r\n{OBJECT}", {"eval_loss"}),
    "postfix": (f"Epoch 3: 100%|{FULL}| 98/98 [00:10<00:00, 9.51it/s, loss=0.25, v_num=0]\n", {"loss"}),
    "postfix with memory": ("Epoch 3:  10%|█         | 10/98 [00:10<00:00, 9.51it/s, loss=0.25, gpu_mem=5.2, lr=0.001]\n", {"loss", "lr"}),
    "rich": (f"Recall 12/40 ━━━━╺━━━━━━━ 30% 0:00:02\n{OBJECT}", {"eval_loss"}),
    "bar of click": (f"Score 45% [####----]  00:00:05\n{OBJECT}", {"eval_loss"}),
    "progressbar2": (f" 45% (45 of 100) |####      | Elapsed Time: 0:00:10 ETA:   0:00:12\n{LINE}", {"val_loss"}),
    "keras 2": ("Epoch 1/2\n469/469 [=====] - 2s 4ms/step - loss: 0.25 - accuracy: 0.9\nEpoch 2/2\n469/469 [=====] - ETA: 0s - loss: 0.2 - accuracy: 0.95\n", {"loss", "accuracy"}),
    "time with its unit": ("step 1 loss 0.5 took 3.2 s\nstep 2 loss 0.4 took 3.1 s\n", {"loss"}),
    "nanoGPT": ("iter 10: loss 2.5012, time 123.45ms, mfu 25.31%\n", {"loss"}),
    "build-nanogpt": ("step    10 | loss: 6.5012 | lr 1.0e-4 | norm: 0.5012 | dt: 123.45ms | tok/sec: 1234.56\n", {"loss", "lr", "norm"}),
    "imagenet": ("Epoch: [0][ 10/5005]\tTime  0.200 ( 0.500)\tData  0.001 ( 0.002)\tLoss 6.5 (7.0)\tAcc@1   0.50 (  0.20)\n", {"Loss", "Acc_1"}),
    "detectron": ("eta: 0:12:30  iter: 19  total_loss: 2.5  loss_cls: 1.5  time: 0.3512  data_time: 0.0112  lr: 0.001  max_mem: 5123M\n", {"total_loss", "loss_cls", "lr"}),
    "dino": ("Epoch: [3]  [ 10/100]  eta: 0:01:30  lr: 0.001  loss: 0.5 (0.6)  time: 0.3  data: 0.01  max mem: 5123\n", {"lr", "loss"}),
    "throughput": ("step 5 loss 0.5 samples/s 123.4 tokens_per_sec 1000.5 ips: 12.5 speed 3.2 it/s\n", {"loss"}),
    "memory": ("epoch 1 loss 0.5 mem 5.2 GB gpu_mem=3.1 max_memory_allocated 1024 MiB\n", {"loss"}),
    "clocks": ("epoch 1 loss 0.5 elapsed: 0:01:02 remaining 00:15 finished 12:30:00\n", {"loss"}),
    "counters": ("step 100 | tokens 51200 | samples seen 6400 | patience 3/10 | loss 3.25\n", {"loss"}),
    "seconds an epoch": ("epoch 1 loss 0.5 rate 12.5 s/epoch\nepoch 2 loss 0.4 rate 12.1 s/epoch\n", {"loss"}),
    "ends of a Trainer": ("{'loss': 0.69, 'epoch': 1.0}\n{'eval_loss': 0.5, 'eval_runtime': 3.2, 'eval_samples_per_second': 100.0, 'epoch': 1.0}\n", {"loss", "eval_loss"}),
    "timers in JSON": ('{"step": 1, "loss": 0.5, "wall_time": 3.2, "tokens_per_second": 100.0, "memory_gb": 3.2, "eta_seconds": 5.0}\n', {"loss"}),
    "bar before an object": ('\r 50%|##  | 2/4 [00:01<00:01]{"step": 3, "valid_loss": 0.01}\n', {"valid_loss"}),
    "percentages that are metrics": ("epoch 1: acc: 91.2% | loss: 0.3 |\nepoch 2: acc: 92.2% | loss: 0.2 |\n", {"acc", "loss"}),
    "a stamp": ("INFO 2024-01-01 12:00:00,123 step 3 loss 0.5 (12.5 s)\n", {"loss"}),
}  # fmt: skip


@each_case("kind", SAMPLES)
def test_only_metrics_are_read_from_a_sample(kind: str) -> None:
    text, metrics = SAMPLES[kind]
    found = read_sample(text)
    assert found is not None
    assert {name for source in found.sources for name in source.metrics} == metrics
    assert found.unread == ()


def test_what_the_user_names_is_a_metric_whatever_its_name() -> None:
    found = read_sample("step 5 loss 0.5 tokens_per_sec 1000.5\n", "tokens_per_sec")
    assert found is not None
    assert found.sources[0].metrics == ("loss", "tokens_per_sec")
    found = read_sample('{"step": 1, "latency": 3.2}\n', "latency")
    assert found is not None
    assert found.sources[0].metrics == ("latency",)


def test_a_sample_of_bars_alone_gives_no_metric() -> None:
    assert read_sample(f"Map: 100%|{FULL}| 400/400 [00:00<00:00, 5123.00 examples/s]\ntime: 3.2 s\n") is None


def test_names_of_metrics() -> None:
    for name in (
        "loss", "val/acc", "grad_norm", "lr", "kl", "entropy", "duration_loss", "loss_per_sample", "token_accuracy",
        "total_loss", "rewards/min", "ep_rew_mean", "perplexity", "Acc@1", "learning_rate", "gradient_norm",
    ):  # fmt: skip
        assert is_metric(name), name
    for name in (
        "time", "data_time", "stepTime", "eval_runtime", "samples/s", "train_samples_per_second", "fps", "gpu_mem",
        "max_memory_allocated", "tokens", "num_tokens", "best_epoch", "patience", "progress", "ETA", "data", "v_num",
    ):  # fmt: skip
        assert not is_metric(name), name


def test_what_is_printed_behind_a_number() -> None:
    assert measures("norm", " loss 0.5")
    assert measures("norm", " s 0.5")  # the next name
    assert measures("Accuracy", "/10000 (98%)")
    for behind in (":30", "-01-01 12:00", " s", "ms,", " GB", " it/s", "/10", " of 10", " samples"):
        assert not measures("other", behind), behind


def test_a_bar_leaves_every_other_character_in_its_place() -> None:
    line = f"Epoch 3: 100%|{FULL}| 98/98 [00:10<00:00, 9.5it/s, loss=0.25]"
    bare = without_bars(line)
    assert len(bare) == len(line)
    assert bare.split() == ["Epoch", "3:", ",", "loss=0.25]"]
    assert behind_bar(line) == ", loss=0.25]"
    assert behind_bar("loss 0.5") == "loss 0.5"


@pytest.mark.parametrize("part", ["1", "-", "[-", "1 a ", "%|", "1%|", "1/1 [1:1", "[1:1:", "1 [1:1:1", ",1"])
def test_a_line_without_a_bar_takes_no_time(part: str) -> None:
    # Hazard: expressions that try all ways to part a long line.
    begin = time.perf_counter()
    without_bars("[" + part * (2_000 // len(part)))
    assert time.perf_counter() - begin < 1
