"""Why an utterance is left out."""

import math


class Unusable(Exception):
    """One utterance is left out. `reason`: short category that drops are counted by; `detail`: field, value, limit;
    `figures`: those of its alignment, where it got one (align.quality)."""

    def __init__(self, reason: str, detail: str = "", figures: dict[str, float] | None = None) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.figures = reason, detail, figures or {}


def limit(reason: str, what: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises Unusable when `value` lies outside."""
    if not low <= value <= high:
        bound = f"at least {low:g}" if value < low else f"at most {high:g}"
        raise Unusable(reason, f"{what} {value:.4g}, accepted is {bound}")
