"""Why an utterance is left out."""


class Unusable(Exception):
    """One utterance is left out. `reason`: short category that drops are counted by; `detail`: file, field, value;
    `figures`: those of its alignment, where it got one (align.quality)."""

    def __init__(self, reason: str, detail: str = "", figures: dict[str, float] | None = None) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.figures = reason, detail, figures or {}
