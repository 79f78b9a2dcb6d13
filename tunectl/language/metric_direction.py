"""In which direction a metric gets better, by its name: a wrong direction would silently select the worst trial."""

from __future__ import annotations

import re

from tunectl.core.errors import Problem
from tunectl.core.objective import Direction
from tunectl.language.review_context import Context

_LESS_IS_BETTER = frozenset(
    re.findall(
        r"\w+",
        "loss losses error errors err cost regret perplexity ppl bpc bpb nll ce bce xent crossentropy mse rmse mae mape"
        " smape rmsle wer cer ter eer ece fid kid brier",
    )
)
_MORE_IS_BETTER = frozenset(
    re.findall(
        r"\w+",
        "accuracy acc auc auroc rocauc auprc aucpr f1 fscore bleu sacrebleu rouge rougel meteor chrf precision recall"
        " sensitivity specificity ap map mrr ndcg hit hits iou miou dice psnr ssim r2 reward rewards likelihood elbo "
        "win kappa mcc spearman pearson correlation",
    )
)
_NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "rate score mean avg average median total sum epoch step batch minibatch macro micro weighted smoothed ema top"
        " at k train training valid validation val eval evaluation dev test holdout roc pr",
    )
)
"""Words after the one that counts: an `error_rate` is an error, a `loss_scale` is not a loss."""

_KNOWN = _LESS_IS_BETTER | _MORE_IS_BETTER
_NEGATIONS = frozenset({"neg", "negative", "minus"})
_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])\d*|\d+")


def expected_direction(metric: str) -> Direction | None:
    """The direction in which a metric of this name gets better; None where the name does not show it.

    The last word that is not neutral counts (`valid/top5_error_rate` is an error), and a word for "negative" before it
    turns it round (`neg_log_likelihood`).
    """
    words = [word for part in re.findall(r"[A-Za-z\d]+", metric) for word in _words(part)]
    while words and words[-1] in _NEUTRAL:
        words.pop()
    if not words:
        return None
    last = "crossentropy" if words[-2:] == ["cross", "entropy"] else words[-1]
    if last not in _KNOWN:
        return None
    turned = metric.rpartition("/")[2].startswith("1-") or not _NEGATIONS.isdisjoint(words)
    return "minimize" if (last in _LESS_IS_BETTER) != turned else "maximize"


def _words(part: str) -> list[str]:
    """The words in a part of a name (`valLoss`, `mAP50`, `top5`), in lower case; without single letters, numbers, and
    the number after a word that is not known with it.
    """
    for whole in (part.lower(), part.lower().rstrip("0123456789")):
        if whole in _KNOWN:
            return [whole]
    words = [word.lower() for word in _WORD.findall(part)]
    plain = [word if word in _KNOWN else word.rstrip("0123456789") for word in words]
    return [word for word in plain if len(word) > 1 or word in _NEUTRAL]


def direction_against_the_name(context: Context) -> list[Problem]:
    """An accuracy that is minimized, or a loss that is maximized."""
    objective = context.spec.objective
    expected = expected_direction(objective.metric)
    if expected is None or expected == objective.direction:
        return []
    better = "lower" if expected == "minimize" else "higher"
    message = (
        f"{objective.direction} would select the worst trials: by its name, {objective.metric} is better when it is "
        f"{better}; write {expected}, or give the metric another name"
    )
    return [context.spec.problem(("objective", "direction"), message)]
