"""Figures of the report: arrays in, PNG bytes out. Colours are one a family everywhere (Okabe and Ito's, for all
eyes)."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tts_gen.evaluation.headline import LABELS
from tts_gen.evaluation.metrics import bin_of

COLOURS = {
    "l1": "#0072B2",
    "l2": "#0072B2",
    "gaussian": "#56B4E9",
    "mdn": "#E69F00",
    "flow": "#D55E00",
    "diffusion": "#009E73",
    "flow_matching": "#CC79A7",
    "control:l2+noise": "#A6761D",
    "control:l2_rescaled": "#7570B3",
    "control:shuffled": "#66A61E",
    "floor": "#777777",
}
ORACLE = "#333333"
STYLE = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.labelcolor": "#333333",
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#eeeeee",
    "axes.axisbelow": True,
}
WIDTH = 10.0
"""inches"""
DPI = 120
Points = tuple[np.ndarray, np.ndarray]
POINTS = 1500
"""of a set in a scatter plot"""


def _styled(plot: Callable[..., bytes]) -> Callable[..., bytes]:
    @functools.wraps(plot)
    def styled(*args, **kwargs) -> bytes:
        import matplotlib

        matplotlib.use("Agg")
        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return styled


def _figure(rows: int, columns: int, height: float, **options):
    """Figure of WIDTH inches by rows * height, and its axes [rows, columns]."""
    from matplotlib import pyplot

    return pyplot.subplots(
        rows, columns, figsize=(WIDTH, rows * height), squeeze=False, layout="constrained", **options
    )


def _png(figure) -> bytes:
    """PNG with a palette of 256 colours, a third of the size, and the figure closed."""
    from matplotlib import pyplot
    from PIL import Image

    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, dpi=DPI)
    pyplot.close(figure)
    Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _colour(family: str) -> str:
    return COLOURS.get(family, "#888888")


@_styled
def histograms(
    oracle: np.ndarray, generated: Mapping[str, Mapping[float | None, np.ndarray]], edges: np.ndarray, unit: str
) -> bytes:
    """Small multiples, a row for each family and a column for each temperature, over the oracle [n] in grey.

    generated: family -> temperature (None: has none) -> values of any shape; edges from metrics.edges_for, whose
    overflow bins are not drawn."""
    temperatures = sorted({t for of in generated.values() for t in of if t is not None}) or [None]
    figure, axes = _figure(len(generated), len(temperatures), 1.6, sharex=True, sharey=True)
    inner = edges[1:-1]

    def density(x: np.ndarray) -> np.ndarray:
        x = np.ravel(x)
        return np.bincount(bin_of(x, edges), minlength=len(edges) - 1)[1:-1] / (len(x) * np.diff(inner))

    titled = next((family for family, of in generated.items() if None not in of), None)
    for line, (family, of) in zip(axes, generated.items(), strict=True):
        line[0].set_ylabel(LABELS.get(family, family))
        for axis, temperature in zip(line, [None, *temperatures[1:]] if None in of else temperatures, strict=True):
            values = of.get(temperature)
            if values is None:
                axis.set_axis_off()
                continue
            axis.stairs(density(oracle), inner, fill=True, color="#d4d4d4")
            axis.stairs(density(values), inner, color=_colour(family), linewidth=1.4)
            if family == titled:
                axis.set_title(f"τ = {temperature:g}")
            axis.set_yticks([])
    figure.supxlabel(unit, fontsize=9.5, color="#333333")
    return _png(figure)


@_styled
def temperature_curves(
    rows: Sequence[dict], columns: Mapping[str, tuple[str, str]], split: str = "test", target: Mapping[str, float] = {}
) -> bytes:
    """A panel for each column, title -> (feature, metric), against temperature, with its 95 % interval; horizontal
    lines are what has no temperature (regression, controls, floor). `target` marks the ideal of a metric (std_ratio:
    1)."""
    figure, axes = _figure(1, len(columns), 3.2)
    for axis, (title, (feature, metric)) in zip(axes[0], columns.items(), strict=True):
        found = [
            r
            for r in rows
            if (r["feature"], r["metric"], r["split"], r["scope"]) == (feature, metric, split, "overall")
            and r["value"] is not None
        ]
        order = {family: i for i, family in enumerate(LABELS)}
        curves = {(r["family"], r["run"]) for r in found}
        for family, run in sorted(curves, key=lambda key: (order.get(key[0], len(order)), str(key[1]))):
            of = [r for r in found if (r["family"], r["run"]) == (family, run)]
            points = sorted(of, key=lambda r: r["temperature"] or 0)
            colour, label = _colour(family), LABELS.get(family, family)
            if points[0]["temperature"] is None:
                dash = ":" if family.startswith("control:") else "--"
                axis.axhline(points[0]["value"], color=colour, linestyle=dash, linewidth=1.6, label=label)
                continue
            x = [r["temperature"] for r in points]
            axis.plot(x, [r["value"] for r in points], "o-", color=colour, markersize=3.5, linewidth=1.6, label=label)
            bounded = [r for r in points if r["low"] is not None]
            band = ([r[name] for r in bounded] for name in ("temperature", "low", "high"))
            axis.fill_between(*band, color=colour, alpha=0.15, linewidth=0)
        if metric in target:
            axis.axhline(target[metric], color=ORACLE, linewidth=0.8)
        axis.set_title(title)
        axis.set_xlabel("temperature τ")
    handles = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 4))
    return _png(figure)


@_styled
def scatters(oracle: Points, generated: Mapping[str, Points], units: tuple[str, str]) -> bytes:
    """A panel for each family, its points (whole x [n], y [n]) over the oracle's in grey; x is logarithmic. Of more
    than POINTS the same are drawn of every set."""
    figure, axes = _figure(1, len(generated), 2.9, sharex=True, sharey=True)
    n = len(oracle[0])
    rng = np.random.default_rng(0)
    drawn = rng.permutation(n)[:POINTS]
    jitter = rng.uniform(-0.5, 0.5, len(drawn))  # whole numbers would stand in columns
    for axis, (family, points) in zip(axes[0], generated.items(), strict=True):
        for (x, y), colour in ((oracle, "#bbbbbb"), (points, _colour(family))):
            axis.scatter(np.maximum(x[drawn] + jitter, 0.5), y[drawn], s=5, color=colour, alpha=0.45, linewidths=0)
        axis.set_title(LABELS.get(family, family))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel(units[0])
    axes[0, 0].set_ylabel(units[1])
    return _png(figure)


@_styled
def f0_curves(oracle: np.ndarray, generated: Mapping[str, np.ndarray], durations: np.ndarray) -> bytes:
    """One utterance: a panel for each family with its samples [K, N] or [N] over the oracle [N], Hz, NaN where
    unvoiced.

    durations [N] seconds give the oracle's time axis."""
    ends = np.cumsum(durations)
    middle = ends - np.asarray(durations) / 2
    figure, axes = _figure(1, len(generated), 2.5, sharey=True)
    voiced = np.isfinite(oracle)
    for axis, (family, samples) in zip(axes[0], generated.items(), strict=True):
        for i, sample in enumerate(np.atleast_2d(samples)):
            look = {"color": _colour(family), "linewidth": 1, "alpha": 0.65, "label": "" if i else "samples"}
            axis.plot(middle[voiced], sample[voiced], **look)
        axis.plot(middle[voiced], oracle[voiced], ".-", color=ORACLE, linewidth=1.8, markersize=5, label="oracle")
        axis.legend(fontsize=8)
        axis.set_title(LABELS.get(family, family))
        axis.set_xlim(0, ends[-1])
        axis.set_xlabel("s")
    axes[0, 0].set_ylabel("f0, Hz")
    return _png(figure)


@_styled
def mels(panels: Mapping[str, np.ndarray], frame_seconds: float) -> bytes:
    """Log-mels [T, M] below one another on one colour scale, that of the first (the oracle)."""
    figure, axes = _figure(len(panels), 1, 1.35, sharex=True)
    first = next(iter(panels.values()))
    low, high = np.percentile(first, (1, 99.8))
    for axis, (title, mel) in zip(axes[:, 0], panels.items(), strict=True):
        axis.imshow(
            mel.T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=high,
            interpolation="nearest",
            extent=(0, len(mel) * frame_seconds, 0, mel.shape[1]),
        )
        axis.grid(False)
        axis.set_title(LABELS.get(title, title))
        axis.set_ylabel("mel bin")
    axes[-1, 0].set_xlabel("s")
    axes[-1, 0].set_xlim(0, max(len(mel) for mel in panels.values()) * frame_seconds)
    return _png(figure)


@_styled
def curves(panels: Mapping[str, Mapping[str, tuple[Sequence, Sequence]]], unit: str) -> bytes:
    """A panel for each title; its lines are label -> (x, y). A family's label has the family's colour."""
    figure, axes = _figure(1, len(panels), 2.9)
    for axis, (title, of) in zip(axes[0], panels.items(), strict=True):
        for label, (x, y) in of.items():
            axis.plot(x, y, color=COLOURS.get(label), linewidth=1.5, label=LABELS.get(label, label))
        axis.set_title(title)
        axis.legend(fontsize=8)
    axes[0, 0].set_ylabel(unit)
    return _png(figure)


@_styled
def lines_with_intervals(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, dict]]]], x_label: str, y_label: str = ""
) -> bytes:
    """A panel for each title; its lines are label -> (x, row) with the row's value and interval; x is logarithmic."""
    figure, axes = _figure(1, len(panels), 3.0)
    for axis, (title, of) in zip(axes[0], panels.items(), strict=True):
        for label, points in of.items():
            known = [(x, r["value"], r["low"], r["high"]) for x, r in points if r["value"] is not None]
            x, value, low, high = zip(*known, strict=True) if known else ((), (), (), ())
            (line,) = axis.plot(x, value, "o-", markersize=3.5, linewidth=1.5, label=label)
            if len(x) == 1 and low[0] is not None:
                axis.plot((x[0], x[0]), (low[0], high[0]), color=line.get_color(), linewidth=1.2, alpha=0.6)
            elif all(b is not None for b in low):
                axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set_xscale("log", base=2)
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, (low * high) ** 0.5 / 2), max(high, (low * high) ** 0.5 * 2))  # two ticks at least
        axis.set_title(title)
        axis.set_xlabel(x_label)
    axes[0, 0].set_ylabel(y_label)
    axes[0, 0].legend()
    return _png(figure)


@_styled
def bars(rows: Sequence[dict], unit: str, label: Callable[[dict], str] | None = None) -> bytes:
    """A bar with its interval for each row that has a value."""
    known = [r for r in rows if r["value"] is not None]
    figure, axes = _figure(1, 1, max(1.2, 0.42 * len(known) + 0.7))
    axis = axes[0, 0]
    names = [label(r) if label else LABELS.get(r["family"], r["family"]) for r in known]
    for i, row in enumerate(known):
        axis.barh(i, row["value"], color=_colour(row["family"]), height=0.62)
        if row["low"] is not None:
            axis.plot((row["low"], row["high"]), (i, i), color=ORACLE, linewidth=1.6)
    axis.set_yticks(range(len(known)), names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(unit)
    return _png(figure)


@_styled
def distributions(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], columns: int = 3) -> bytes:
    """A panel for each title, which names the unit; its lines are label -> (edges [n + 1], counts [n]), each as a share
    of its own sum. The axis is logarithmic where equal ratios lie between the edges."""
    figure, axes = _figure(-(-len(panels) // columns), columns, 2.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, of) in zip(axes.flat, panels.items(), strict=False):
        for label, (edges, counts) in of.items():
            axis.stairs(counts / max(counts.sum(), 1), edges, label=label, linewidth=1.4, fill=len(of) == 1)
            if edges[0] > 0 and np.allclose(edges[1:] / edges[:-1], edges[1] / edges[0]):
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter("{x:g}")
        axis.set_title(title)
        axis.set_yticks([])
        if len(of) > 1:
            axis.legend(fontsize=8)
    return _png(figure)
