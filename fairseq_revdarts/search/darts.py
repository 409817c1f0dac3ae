"""The search of the paper: all candidates live in every update, and alpha's argmax is the result.

DARTS (Liu et al. 2019), as in Zhao et al. (2021).
"""

from typing import Optional

from .strategy import ALL_LIVING, Active, Measure, Strategy


class Darts(Strategy):
    """All candidates, always; alpha begins to move after --alpha-start updates."""

    leaves_idle = False

    def for_theta(self, update: int) -> Active:
        """All candidates."""
        return ALL_LIVING

    def for_alpha(self, update: int) -> Optional[Active]:
        """All candidates, after --alpha-start updates of theta."""
        return ALL_LIVING if update > self.cfg.alpha_start else None

    def for_validation(self) -> Active:
        """All candidates."""
        return ALL_LIVING

    def after_update(self, update: int, measure: Measure) -> None:
        """Nothing is decided before the end."""

    def before_checkpoint(self, measure: Measure) -> None:
        """alpha is the choice."""
