"""A training by Hugging Face's Trainer, in float64: a script that runs outside the repository.

    python by_transformers.py OUT.pt SCHEDULE

It writes the batches of each step, the weights before the first and after each, and the learning rates.
"""

import sys
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

STEPS, BATCH, LENGTH, VOCABULARY, WIDTH = 20, 4, 6, 11, 8


class Language(nn.Module):
    """A small language model, with a parameter of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Embedding(VOCABULARY, WIDTH), nn.LayerNorm(WIDTH)
        self.hidden, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss and the logits of a batch, int64 (B, T)."""
        logits = self.head(self.norm(torch.tanh(self.hidden(self.tokens(inputs).cumsum(1)))))
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


class Note(TrainerCallback):  # type: ignore[misc]
    """Keeps the weights after each step, and its learning rate."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Keep the weights."""
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})


def main(out: str, schedule: str) -> None:
    """Train, and write what happened."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Language().double()
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = torch.randint(VOCABULARY, (STEPS * BATCH, LENGTH + 1))
    note, seen = Note(), []

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        seen.append(batch)
        return batch

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir="out",
            per_device_train_batch_size=BATCH,
            max_steps=STEPS,
            learning_rate=0.02,
            weight_decay=0.1,
            adam_beta1=0.85,
            adam_beta2=0.95,
            adam_epsilon=1e-6,
            max_grad_norm=0.8,
            lr_scheduler_type=schedule,
            warmup_steps=5,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
            dataloader_num_workers=0,
        ),
        train_dataset=[{"inputs": row[:-1], "labels": row[1:]} for row in data],
        data_collator=collate,
        callbacks=[note],
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "learning_rate" in entry]
    norms = [float(entry["grad_norm"]) for entry in logs]
    torch.save({"first": first, "batches": seen[:STEPS], "weights": note.weights, "norms": norms}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
