"""Parts of a network whose strength changes while it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Fading(nn.Module):
    """A part with a strength from 0 to 1, which its state contains (`_extra_state`, float64 scalar)."""

    strength = 1.0

    def get_extra_state(self) -> Tensor:
        """Return the strength, for `state_dict`."""
        return torch.tensor(self.strength, dtype=torch.float64)

    def set_extra_state(self, state: Any) -> None:
        """Load the strength from a state."""
        self.strength = float(state)
