"""Figures of a listening test: PNG bytes."""

import functools
import io
from collections.abc import Callable

import numpy as np

from tts_gen.evaluation.plots import DPI, STYLE


def _figure(plot: Callable[..., None]) -> Callable[..., bytes]:
    """Draws `plot(ax, ...)` of about as many lines as the last argument has rows; returns PNG bytes."""

    @functools.wraps(plot)
    def drawn(*args) -> bytes:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(8, 1.2 + 0.45 * len(args[-1])), layout="constrained")
            plot(figure.subplots(), *args)
            png = io.BytesIO()
            figure.savefig(png, dpi=DPI, format="png")
        return png.getvalue()

    return drawn


@_figure
def rating_plot(ax, limits: tuple[float, float], means: np.ndarray, rows: list[dict]) -> None:
    """Boxes of the listeners' means [L, S], and mean with interval, on the whole scale."""
    grey = {"color": "#bbbbbb"}
    for y, (row, values) in enumerate(zip(rows, means.T, strict=True)):
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        ax.boxplot(values, positions=[y], orientation="horizontal", widths=0.55, manage_ticks=False, showfliers=False,
                   medianprops=grey, boxprops=grey, whiskerprops=grey, capprops=grey)  # fmt: skip
        ax.plot(values, np.full(len(values), y), ".", color="#999999", markersize=4)
        error = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]] if row["low"] is not None else None
        ax.errorbar(row["mean"], y, xerr=error, fmt="o", color="#0072B2", capsize=4, linewidth=2)
    ax.set(yticks=range(len(rows)), yticklabels=[row["system"] for row in rows], ylim=(len(rows) - 0.4, -0.6),
           xlim=limits, xlabel="rating: mean with 95 % interval; box and dots: listeners' means")  # fmt: skip


@_figure
def preference_plot(ax, rows: list[dict]) -> None:
    """Shares of single answers, a | none | b."""
    rows = [row for row in rows if row["unit"] == "ratings"]
    for y, row in enumerate(rows):
        counts = np.array([row["prefer_a"], row["no_preference"], row["prefer_b"]], float)
        widths = counts / max(counts.sum(), 1)
        for left, width, colour in zip(np.cumsum(widths) - widths, widths, ("#0072B2", "#cccccc", "#D55E00")):
            ax.barh(y, width, left=left, color=colour, height=0.6)
        ax.text(1.01, y, row["b"], va="center")
    ax.set(yticks=range(len(rows)), yticklabels=[row["a"] for row in rows], ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1),
           xlabel="share of answers: left preferred, no preference, right preferred")  # fmt: skip
    ax.axvline(0.5, color="#333333", linewidth=0.8)
