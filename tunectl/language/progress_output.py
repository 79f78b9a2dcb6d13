"""Names and units of numbers that are not metrics: timers, throughput, memory, counters and positions."""

from __future__ import annotations

import re

STEPS = ("step", "steps", "global_step", "iter", "iters", "iteration", "it", "update", "batch", "epoch", "ep")
"""Names of a step, the finest first."""

EPOCHS = ("epoch", "ep")

MEASURE = re.compile(
    r"(?<![a-z])(?:loss(?:es)?|acc(?:uracy)?|err(?:or)?|perplexity|ppl|f1|auc|auroc|bleu|rouge|score|mse|mae|rmse|r2|m?iou"
    r"|dice|m?ap|top|precision|recall|reward|return|nll|bpb|bpc|psnr|ssim|fid|wer|cer|elbo)(?![a-z])",
    re.IGNORECASE,
)
"""Words in the names of metrics: a line without a step is read only where one of its names has such a word."""

_TIMERS = frozenset((
    "time", "times", "timer", "timing", "elapsed", "eta", "remaining", "runtime", "duration", "seconds", "second",
    "secs", "sec", "ms", "msec", "minutes", "mins", "hours", "hrs", "took", "wall", "walltime", "wallclock", "dt",
    "latency",
))  # fmt: skip
_RATES = frozenset((
    "speed", "throughput", "fps", "ips", "mfu", "hfu", "flops", "tflops", "flos", "bandwidth",
))  # fmt: skip
_PER_SECOND = re.compile(r"(?:/|per[_ ]?)(?:s|sec|second|hour)$|per[_ ]?min(?:ute)?$", re.IGNORECASE)
_MEMORY = frozenset((
    "mem", "memory", "ram", "vram", "gb", "mb", "kb", "gib", "mib", "bytes", "allocated", "reserved", "rss",
))  # fmt: skip
_COUNTERS = frozenset((
    "count", "counts", "counter", "tokens", "tok", "toks", "samples", "examples", "images", "imgs", "batches",
    "seen", "processed", "num", "nb", "patience", "rank", "pid", "worker", "workers", "gpu", "gpus", "device",
    "devices", "cuda", "version", "params", "parameters", "size", "port", "attempt", "retry", "retries", "progress",
    "percent", "percentage", "pct", "done", "completed", "seed",
))  # fmt: skip
_WHOLE_NAMES = frozenset({"data", "v_num", "in", "at", "of", "n"})
_POSITIONS = frozenset((
    "epoch", "epochs", "ep", "step", "steps", "iter", "iters", "iteration", "iterations", "it", "batch", "update",
    "updates",
))  # fmt: skip

_CLOCK_OR_DATE = re.compile(r":\d\d|[-/]\d{1,2}[-/]\d{1,2}(?!\d)")
_UNIT = re.compile(
    r"\s?(?:(?:ms|us|µs|ns|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|[kKMGT]?i?B|bytes"
    r"|examples|samples|tokens|images|files|items|steps|batches|params|parameters)(?![\w/])"
    r"|[\w.]+/(?:s|sec|second|it|iter|step|epoch|batch|min|h)(?!\w))(?!\s*[:=]?\s*[-+.\d])"
)
_OF_A_TOTAL = re.compile(r"\s?(?:/|of\s)\s?\d")


def is_metric(name: str) -> bool:
    """Whether a number of this name may be a metric, not a timer, throughput, memory, counter or position."""
    if name.lower() in _WHOLE_NAMES or _PER_SECOND.search(name):
        return False
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if not words or words[-1] in _TIMERS | _RATES:
        return not words
    if MEASURE.search(name):
        return True
    return (
        words[-1] not in _POSITIONS and _TIMERS.isdisjoint(words) and (_RATES | _MEMORY | _COUNTERS).isdisjoint(words)
    )


def measures(name: str, behind: str) -> bool:
    """Whether a number may be a metric's, by the text after it: not in `0:12`, `3.2 s`, `5 GB`, `3/10`."""
    if _CLOCK_OR_DATE.match(behind):
        return False
    return MEASURE.search(name) is not None or not (_UNIT.match(behind) or _OF_A_TOTAL.match(behind))
