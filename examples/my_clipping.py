"""`autoclip`: clip gradients at a percentile of their norms so far (Seetharaman et al. 2020), with a state."""

from __future__ import annotations

from dataclasses import dataclass

from open_prune import Hooks, Step, Technique, TechniqueHparams, Training, hparam


@dataclass(frozen=True, kw_only=True)
class AutoClipHparams(TechniqueHparams):
    """Clipping of gradients."""

    autoclip_percentile: float = hparam(10.0, above=0, at_most=100)
    """The percentile of the norms so far that bounds the norm of the gradient."""


class AutoClip(Hooks[AutoClipHparams]):
    """Clip the gradient of each step."""

    def __init__(self, training: Training, hparams: AutoClipHparams) -> None:
        super().__init__(training, hparams)
        self.state = self.kept("state")  # checkpoints hold the tensors in this dict

    def after_backward(self, step: Step) -> bool:
        """Add the norm of the gradient to the others, and clip at their percentile."""
        import torch

        parameters = list(self.training.model.parameters())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norms = torch.cat([self.state.get("norms", norm.new_empty(0)), norm[None]])
        self.state["norms"] = norms
        bound = norms.quantile(self.hparams.autoclip_percentile / 100).item()
        torch.nn.utils.clip_grads_with_norm_(parameters, bound, norm)
        return False


AUTOCLIP = Technique(
    spelling="autoclip",
    summary="clip gradients at a percentile of their norms so far",
    paper="Seetharaman et al. 2020, AutoClip: Adaptive Gradient Clipping for Source Separation Networks",
    hparams=AutoClipHparams,
    hooks=AutoClip,
)
