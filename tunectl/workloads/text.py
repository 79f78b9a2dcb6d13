"""Transformers on text: a language model, and translation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.workloads.bleu import BleuMetrics, load_sacrebleu, with_bleu
from tunectl.workloads.data.parallel_text import NUMBERS, ParallelText, is_parallel, parallel_text, tokenised_pairs
from tunectl.workloads.data.text_data import EXAMPLES, TextData, text_data, tokenised_text
from tunectl.workloads.data.text_files import ENGLISH
from tunectl.workloads.data.text_tokenizers import load_tokenizer
from tunectl.workloads.keyword_checks import check_choice, check_count, check_flag
from tunectl.workloads.models.transformer import TransformerLM, TransformerShape, Translator
from tunectl.workloads.text_predictions import Continuations, Translations
from tunectl.workloads.token_loss import TokenLoss, TokenMetrics, scored_text, scored_translation, with_perplexity
from tunectl.workloads.workload import Workload


def transformer_lm(
    *,
    data: str = "english",
    tokenizer: str = "bytes",
    examples: str = "windows",
    sequence_length: int = 128,
    num_layers: int = 6,
    embedding_size: int = 512,
    num_heads: int = 8,
    mlp_size: int = 1024,
    activation: str = "gelu",
    norm_placement: str = "pre",
    init: str = "lecun_normal",
    init_scale: float = 1.0,
    positions: str = "sinusoidal",
    tied_embeddings: bool = False,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    label_smoothing: float = 0.0,
) -> Workload:
    """A language model that predicts each token from those before it.

    `data`, `tokenizer`, `examples` and `sequence_length`, the tokens of an example, are as in `text_data.text_data`.
    The model is that of Gilmer et al. on LM1B (arXiv 2110.04369, appendix D). `norm_placement` is one of
    `residual_branches.NORM_PLACEMENTS`, with layer normalization. `init` is one of `transformer.TRANSFORMER_INITS` for
    the matrices; embeddings are N(0, 1) and biases 0, then `init_scale` multiplies every variable. Under rezero each
    branch ends in a scalar that begins at 0 (its authors use no normalization). `positions` is sinusoidal or learned.
    `tied_embeddings`: the output has the vectors of the input. `dropout` is after the activation of an MLP and at the
    end of each branch, `attention_dropout` drops attention weights, `embedding_dropout` is after the embedding.
    `label_smoothing` is as in `LabelLoss`.
    The metrics are `loss`, `token_error_rate` and `perplexity`, of which the last two are without label smoothing, all
    means over tokens. Raises ValueError where a value is outside its range or a name is not known, and WorkloadError
    where the data cannot be read.
    """
    check_choice("examples", examples, EXAMPLES)
    shape = TransformerShape(
        num_layers=num_layers,
        size=embedding_size,
        num_heads=num_heads,
        mlp_size=mlp_size,
        max_length=sequence_length,
        activation=activation,
        norm_placement=norm_placement,
        init=init,
        init_scale=init_scale,
        positions=positions,
        tied_embeddings=tied_embeddings,
        dropout=dropout,
        attention_dropout=attention_dropout,
        embedding_dropout=embedding_dropout,
    )
    loss = TokenLoss(scored_text, label_smoothing)
    text = text_data(data, tokenizer=tokenizer, examples=examples, sequence_length=sequence_length)
    model = TransformerLM(text.vocabulary, shape)
    return replace(_workload(model, text, loss, model.layers), predict=Continuations(load_tokenizer(tokenizer)))


def transformer_nmt(
    *,
    data: str = "numbers",
    source_language: str = "en",
    target_language: str = "de",
    tokenizer: str = "bytes",
    sequence_length: int = 256,
    num_layers: int = 6,
    embedding_size: int = 512,
    num_heads: int = 8,
    mlp_size: int = 2048,
    activation: str = "relu",
    norm_placement: str = "pre",
    init: str = "lecun_normal",
    init_scale: float = 1.0,
    positions: str = "sinusoidal",
    tied_embeddings: bool = False,
    shared_embeddings: bool = False,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    label_smoothing: float = 0.0,
    bleu: bool = False,
    beam_size: int = 1,
) -> Workload:
    """An encoder and a decoder of `num_layers` layers each, which translate a text.

    `data`, the languages, `tokenizer` (one for both languages) and `sequence_length`, the largest number of tokens of a
    text, are as in `parallel_text.parallel_text`. The model is the Transformer-Base of Gilmer et al. on WMT (arXiv
    2110.04369, appendix D). `shared_embeddings`: source and target have the same vectors; `tied_embeddings`: the output
    has those of the target. `bleu`: every evaluation translates all evaluated sources, with `beam_size` as in
    `decoding.translations`, and has the metric `bleu` (see `bleu.BleuMetrics`). All other keywords, metrics and errors
    are those of `transformer_lm`; WorkloadError also where `bleu` is asked for and sacrebleu is missing.
    """
    shape = TransformerShape(
        num_layers=num_layers,
        size=embedding_size,
        num_heads=num_heads,
        mlp_size=mlp_size,
        max_length=sequence_length,
        activation=activation,
        norm_placement=norm_placement,
        init=init,
        init_scale=init_scale,
        positions=positions,
        tied_embeddings=tied_embeddings,
        dropout=dropout,
        attention_dropout=attention_dropout,
        embedding_dropout=embedding_dropout,
    )
    check_flag("shared_embeddings", shared_embeddings)
    check_flag("bleu", bleu)
    check_count("beam_size", beam_size, 1)
    loss = TokenLoss(scored_translation, label_smoothing)
    if bleu:
        load_sacrebleu()
    text = parallel_text(
        data,
        tokenizer=tokenizer,
        source_language=source_language,
        target_language=target_language,
        sequence_length=sequence_length,
    )
    model = Translator(text.vocabulary, text.vocabulary, shape, shared_embeddings=shared_embeddings)
    predict = Translations(load_tokenizer(tokenizer), text.vocabulary - 1, sequence_length)
    workload = replace(_workload(model, text, loss, (*model.encoder, *model.decoder)), predict=predict)
    if not bleu:
        return workload
    boundary = text.vocabulary - 1
    translated = BleuMetrics(load_tokenizer(tokenizer), text.translations, boundary, sequence_length, beam_size)
    return _with_bleu(workload, TokenMetrics(loss), translated)


def _workload(
    model: TransformerLM | Translator, text: TextData | ParallelText, loss: TokenLoss, blocks: Iterable[nn.Module]
) -> Workload:
    return Workload(
        model=model,
        data={**text.splits, VALID_FOR_TRAINING: text.splits["valid"]},  # no split is transformed
        loss=loss,
        metrics=TokenMetrics(loss),
        baseline_loss=loss.of_best_constant(text.token_shares),
        finalize=with_perplexity,
        blocks=tuple(blocks),
        output=(model.scores,),
    )


def _with_bleu(workload: Workload, metrics: TokenMetrics, translated: BleuMetrics) -> Workload:
    return replace(
        workload,
        metrics=lambda model, batch: metrics(model, batch) | translated(model, batch),
        finalize=lambda means: with_perplexity(means) | with_bleu(means),
    )


def preload(
    *,
    data: str = "",
    tokenizer: str = "bytes",
    examples: str = "windows",
    source_language: str = "en",
    target_language: str = "de",
    sequence_length: int = 0,
) -> None:
    """Read the data once, for all trials of the process and of its forks; without `data` those that need no file.

    Which factory will be called is not known here: what is wrong with the data is left for it to say.
    """
    languages = {"source_language": source_language, "target_language": target_language}
    with contextlib.suppress(WorkloadError):
        if not data:
            tokenised_text(ENGLISH, tokenizer, examples)
            tokenised_pairs(NUMBERS, tokenizer, **languages)
        elif data == ENGLISH or not is_parallel(data, source_language):
            tokenised_text(data, tokenizer, examples)
        elif sequence_length > 0:  # what is left out because of its length is said once
            parallel_text(data, tokenizer=tokenizer, sequence_length=sequence_length, **languages)
        else:
            tokenised_pairs(data, tokenizer, **languages)
