"""Calibration error (Guo et al. 2017): the gap between a network's confidence and its accuracy.

The confidence of a prediction is its probability, the largest of the softmax. With the examples in M bins of equal
width by confidence, B_m those in ((m - 1) / M, m / M], of n in all,

    ECE = Σ_m |B_m| / n |accuracy(B_m) - confidence(B_m)|,   MCE = max_m |accuracy(B_m) - confidence(B_m)|.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measures.data import DataOptions, Examples
from analysis.measures.measure import Measure, Measured, StepOptions
from foundations.description.hparams import hparam

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions(StepOptions, DataOptions):
    """State and examples of the predictions, and their bins."""

    bins: int = hparam(15, at_least=1)
    """The number of bins of equal width."""


def compute(measuring: Measuring, options: CalibrationOptions, run: MeasuredRun) -> Measured:
    """Return the expected and the maximum calibration error, the accuracy and the mean confidence.

    The table has a row for each bin. Accuracy and confidence of an empty bin are NaN.
    Raises: UsageError where the task has no classes.
    """
    import torch

    model = run.model(options.step).to(measuring.device)
    confidences, hits = [], []
    examples = Examples(measuring, run, options)
    examples.needs_classes("calibration_error")
    for logits, labels in examples.logits(model):
        probabilities, predictions = logits.cpu().double().softmax(1).max(1)
        confidences.append(probabilities)
        hits.append(predictions == labels.cpu())
    return by_bin(torch.cat(confidences), torch.cat(hits), options.bins)


def by_bin(confidences: Tensor, hits: Tensor, bins: int) -> Measured:
    """Return the same as `compute`. confidences: float64 (n,), from 0 to 1. hits: bool (n,), True if right."""
    import torch

    bounds = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    places = torch.bucketize(confidences, bounds[1:-1])  # bound m belongs to the bin below it
    counts = torch.bincount(places, minlength=bins)
    accuracy = torch.bincount(places, hits.double(), bins) / counts  # NaN for empty bins
    confidence = torch.bincount(places, confidences, bins) / counts
    gaps = (accuracy - confidence).abs().nan_to_num(0.0)
    return Measured(
        values={
            "expected_calibration_error": float((counts / len(hits) * gaps).sum()),
            "maximum_calibration_error": float(gaps.max()),
            "accuracy": float(hits.double().mean()),
            "confidence": float(confidences.mean()),
        },
        table={
            "above": bounds[:-1].tolist(),
            "up_to": bounds[1:].tolist(),
            "examples": counts.tolist(),
            "accuracy": accuracy.tolist(),
            "confidence": confidence.tolist(),
        },
    )


CALIBRATION_ERROR = Measure(
    spelling="calibration_error",
    summary="how far confidence is from accuracy, by bins of confidence",
    paper="Guo et al. 2017, On Calibration of Modern Neural Networks",
    options=CalibrationOptions,
    compute=compute,
)
