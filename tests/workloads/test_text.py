"""The factories of text: what a trial trains, evaluates and measures. Tests text.py."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from narrowing import present
from torch.utils.data import default_collate

from tunectl.core.errors import WorkloadError
from tunectl.training.collation import drawn
from tunectl.training.evaluation import evaluate
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.example_losses import example_losses
from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads import text
from tunectl.workloads.data.text_files import english
from tunectl.workloads.models.residual_branches import NORM_PLACEMENTS
from tunectl.workloads.models.transformer import POSITIONS, TRANSFORMER_INITS
from tunectl.workloads.text import transformer_lm, transformer_nmt
from tunectl.workloads.workload import Workload

_TINY: dict[str, Any] = {"num_layers": 1, "embedding_size": 8, "num_heads": 2, "mlp_size": 8, "sequence_length": 80}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "norm_placement": NORM_PLACEMENTS,
    "init": TRANSFORMER_INITS,
    "activation": ("relu", "gelu"),
    "init_scale": (1.0, 0.25),
    "positions": POSITIONS,
    "tied_embeddings": (False, True),
    "dropout": (0.0, 0.1),
    "attention_dropout": (0.0, 0.1),
    "embedding_dropout": (0.0, 0.1),
    "label_smoothing": (0.0, 0.1),
}
_OF_LM = {"examples": ("windows", "lines")}
_OF_NMT = {"shared_embeddings": (False, True), "bleu": (False, True), "beam_size": (1, 2)}


def _pairwise(choices: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Combinations in which every two values of different keywords are together at least once."""
    names = list(choices)
    wanted = {
        ((one, first), (other, second))
        for one, other in itertools.combinations(names, 2)
        for first, second in itertools.product(choices[one], choices[other])
    }
    found = []
    while wanted:
        # Begin with a pair that is still wanted; each further keyword takes the value that meets most of them.
        chosen = dict(min(wanted, key=str))
        for name in names:
            if name not in chosen:
                chosen[name] = max(
                    choices[name],
                    key=lambda value: sum(
                        pair in wanted
                        for other in chosen.items()
                        for pair in (((name, value), other), (other, (name, value)))
                    ),
                )
        found.append(chosen)
        wanted -= set(itertools.permutations(chosen.items(), 2))
    return found


def _train(workload: Workload, steps: int, size: int = 4) -> list[float]:
    """The losses of a few updates, as the training loop makes them of weighted values."""
    optimizer = torch.optim.Adam(workload.model.parameters(), 1e-2)
    losses = []
    for step in range(steps):
        batch = drawn(
            workload.data["train"],
            list(range(step * size, step * size + size)),
            sequence(0, Purpose.EXAMPLES),
            default_collate,
        )
        values = example_losses(workload.loss(workload.model, batch), size)
        loss = values.products().sum() / values.total_weight()
        optimizer.zero_grad()
        loss.backward()
        assert all(present(one.grad).isfinite().all() for one in workload.model.parameters() if one.grad is not None)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("factory", "choices"), [(transformer_lm, _CHOICES | _OF_LM), (transformer_nmt, _CHOICES | _OF_NMT)]
)
def test_every_two_values_of_keywords_train_together(factory, choices):
    for chosen in _pairwise(choices):
        torch.manual_seed(0)
        workload = factory(**(_TINY | chosen))
        assert np.isfinite(_train(workload, 2)).all(), chosen
        workload.model.eval()
        with torch.no_grad():
            batch = default_collate([workload.data["valid"][row] for row in range(2)])
            assert present(workload.metrics)(workload.model, batch), chosen


def test_every_parameter_has_a_gradient():
    for workload in (transformer_lm(**_TINY), transformer_nmt(**_TINY)):
        _train(workload, 1)
        assert [name for name, one in workload.model.named_parameters() if one.grad is None] == []


def test_the_baseline_is_the_loss_of_the_best_constant_prediction():
    raw = np.frombuffer(english().encode(), np.uint8)
    shares = np.bincount(raw[: int(0.9 * len(raw))], minlength=256) / int(0.9 * len(raw))
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert present(transformer_lm(**_TINY).baseline_loss) == pytest.approx(entropy, abs=1e-3)
    smooth, plain = (present(transformer_nmt(**_TINY, label_smoothing=part).baseline_loss) for part in (0.1, 0.0))
    assert math.log(257) > smooth > plain > 2


def _evaluated(workload: Workload) -> dict[str, float]:
    data = {"valid": torch.utils.data.Subset(workload.data["valid"], list(range(10)))}
    return evaluate(Evaluator(workload, data, 4, 0, torch.device("cpu")))["valid"].metrics


def test_an_evaluation_has_the_metrics_of_tokens_and_bleu_where_it_is_asked_for():
    found = _evaluated(transformer_lm(**_TINY))
    assert list(found) == ["loss", "token_error_rate", "perplexity"]
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    found = _evaluated(transformer_nmt(**_TINY, bleu=True, label_smoothing=0.1))
    assert found["perplexity"] == pytest.approx(math.exp(found["cross_entropy"]))
    assert found["bleu"] == 0
    assert found["bleu_reference_length"] == pytest.approx(
        np.mean([len(text.split()) for _, text in text_pairs()[:10]])
    )


def text_pairs() -> list[tuple[str, str]]:
    from tunectl.workloads.data.number_words import number_pairs

    return number_pairs()["valid"]


def test_blocks_are_the_layers_in_their_order():
    workload = transformer_nmt(**(_TINY | {"num_layers": 2}))
    names = {module: name for name, module in workload.model.named_modules()}
    assert [names[block] for block in workload.blocks] == ["encoder.0", "encoder.1", "decoder.0", "decoder.1"]


def test_wrong_keywords_and_missing_libraries_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="examples: expected one of windows, lines, got 'words'"):
        transformer_lm(examples="words")
    with pytest.raises(ValueError, match="beam_size: expected a whole number, at least 1, got 0"):
        transformer_nmt(beam_size=0)
    with pytest.raises(ValueError, match="bleu: expected true or false, got 1"):
        transformer_nmt(bleu=1)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(WorkloadError, match="bleu: true needs the library sacrebleu"):
        transformer_nmt(**_TINY, bleu=True)


def test_all_trials_share_the_tokens(tmp_path):
    text.preload()
    text.preload(data=str(tmp_path / "what is missing is said by the factory"))
    first, second = (transformer_lm(**_TINY).data["valid"] for _ in range(2))
    (tmp_path / "train.en").write_text("a\nb\n")
    (tmp_path / "train.de").write_text("c\nd\n")
    (tmp_path / "valid.tsv").write_text("e\tf\n")
    text.preload(data=str(tmp_path), sequence_length=4)
    for file in tmp_path.iterdir():
        file.unlink()
    assert len(transformer_nmt(**(_TINY | {"sequence_length": 4}), data=str(tmp_path)).data["train"]) == 2  # type: ignore[arg-type]
    assert first is not second
