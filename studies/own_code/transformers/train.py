"""A Hugging Face Trainer script: a tiny model from a configuration, data made in memory, nothing downloaded."""

import argparse

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed


class Sequences(torch.utils.data.Dataset):
    """Sequences of 8 tokens; the label says whether most of them are of the upper half."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(4, 20, (count, 8), generator=generator)
        self.labels = ((self.tokens >= 12).sum(1) > 4).long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--hidden_size", type=int, default=32)
    parser.add_argument("--max_steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", default="out")
    args = parser.parse_args()
    set_seed(args.seed)
    config = BertConfig(
        vocab_size=20,
        hidden_size=args.hidden_size,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * args.hidden_size,
        max_position_embeddings=8,
        num_labels=2,
    )
    settings = TrainingArguments(
        output_dir=args.output_dir,
        learning_rate=args.learning_rate,
        max_steps=args.max_steps,
        per_device_train_batch_size=32,
        eval_strategy="steps",
        eval_steps=20,
        logging_steps=20,
        save_steps=20,
        seed=args.seed,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    model = BertForSequenceClassification(config)
    Trainer(model=model, args=settings, train_dataset=Sequences(512, 1), eval_dataset=Sequences(256, 2)).train()


if __name__ == "__main__":
    main()
