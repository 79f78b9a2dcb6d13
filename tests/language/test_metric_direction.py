"""Which way a metric gets better, and the warning where a study has it the other way round."""

from __future__ import annotations

import pytest
from builders import study

from tunectl.language.metric_direction import expected_direction
from tunectl.language.review import review
from tunectl.space.search_space import search_space

LESS = """valid/loss val_loss eval/loss loss/valid valLoss loss_epoch ce_loss accuracy_loss f1_loss valid/error_rate
top5_error top1_err valid/top5Error word_error_rate mean_squared_error wer CER perplexity ppl valid/ppl MSE rmse nll
cross_entropy test_cross_entropy_avg neg_log_likelihood negative_log_likelihood 1-accuracy one_minus_accuracy reward_loss
minus_reward fid loss/total brier_score"""
MORE = """valid/accuracy acc val_acc acc1 acc@5 valid/acc_top5 top_1_accuracy accuracy/valid valAccuracy auc ROC_AUC
roc_auc_score auc_pr f1 F1 F1Score f1_macro ner_f1 bleu BLEU-4 sacrebleu rouge1 rougeL rouge_l mAP50 mAP map mean_iou
mIoU recall@10 precision_at_k hits@10 ndcg@5 r2 r2_score neg_mean_squared_error neg_loss episode_reward log_likelihood
win_rate hit_rate psnr"""
UNKNOWN = """valid/score loss_scale error_free lossless loss_weight loss_ratio accuracy_gap accuracy_std error_reduction
loss_reduction glossary x top1 learning_rate steps_per_second entropy policy_entropy 3 valid/ flossy macro mapper
terror_level acceleration recall_time accumulated error_bars"""


@pytest.mark.parametrize(
    ("names", "expected"), [(LESS, "minimize"), (MORE, "maximize"), (UNKNOWN, None)], ids=["less", "more", "unknown"]
)
def test_the_words_of_a_name_say_which_way_it_gets_better(names: str, expected: str | None) -> None:
    assert {name: expected_direction(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def warnings(metric: str, direction: str) -> list[str]:
    spec = study(objective=f"{{metric: {metric}, direction: {direction}}}")
    settings = tuple(setting.values for setting in search_space(spec).settings)
    found = review(spec, settings, (1,) * len(settings))
    return [f"{item.path}: {item.message}" for item in found if item.path.startswith("objective")]


def test_a_study_that_selects_the_worst_trials_by_its_metric_s_name_is_warned() -> None:
    assert warnings("valid/top5_acc", "minimize") == [
        "objective.direction: minimize would select the worst trials: by its name, valid/top5_acc "
        "is better when it is higher; write maximize, or give the metric another name"
    ]
    (lower,) = warnings("valid/loss", "maximize")
    assert "is better when it is lower; write minimize" in lower
    for metric, direction in (("top5_acc", "maximize"), ("loss", "minimize"), ("loss_scale", "maximize")):
        assert warnings(f"valid/{metric}", direction) == []
