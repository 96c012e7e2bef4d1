"""What each model costs, and what it gives for that: parameters, arithmetic, network evaluations, compiling, speed of
sampling and of training, memory, beside a figure of its samples. Timings are of this machine, one after the other in
one process; ratios travel better than seconds.
"""

import argparse
import logging
import statistics
import time

import jax
import numpy as np

from tts_gen import parallel, speed
from tts_gen.batches import acoustic_batch, prosody_batch, whole
from tts_gen.config import UserError
from tts_gen.evaluation import plots
from tts_gen.evaluation.compare import rows_at
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.outputs import Study
from tts_gen.features.store import Features
from tts_gen.runs import Run
from tts_gen.writer import read_lines

log = logging.getLogger(__name__)

COLUMNS = {
    "parameters": "parameters", "network evaluations": "network_evaluations", "GFLOP a second of speech": "gflop",
    "compile, s": "compile_seconds", "real-time factor": "real_time_factor", "% of peak": "peak_share",
    "memory, MB": "memory_mb",
}  # fmt: skip
QUALITY = {"prosody": ("CRPS of log-f0", ("log_f0", "crps")), "acoustic": ("JS of mels", ("mel", "js"))}


def study(c: Comparison, options: argparse.Namespace) -> Study:
    runs = [run for run in c.runs if isinstance(run, Run)]
    if not runs:
        raise UserError("no prosody or acoustic run among these")
    split = Split.read(c.store, c.split)
    if (most := max(options.batches)) > (there := len(split.utterances)):
        raise UserError(f"--batches {most}: split {split.name} has {there} utterances; give fewer")
    peak = speed.measured_peak(parallel.make_mesh(), "float32")
    found, tables, images, answer = [], [], [], []
    for task in ("prosody", "acoustic"):
        cells, fastest, panels, (title, column) = [], {}, {}, QUALITY[task]
        for run in c.of_task(task):
            samples = rows_at(c, run, split, options.temperature)
            (quality,) = [r for r in samples if (r["feature"], r["metric"], r["scope"]) == (*column, "overall")]
            found.append(quality)
            for batch_size in options.batches:
                figures = _sampling(run, split, batch_size, options.repeats, c.store.audio.frame_seconds, peak)
                figures |= {"parameters": sum(run.parameters.values()),
                            "network_evaluations": _evaluations(run)}  # fmt: skip
                identity = c.identity(run, task, c.split, 1.0, batch_size)
                found += [make_row(identity, task, m, v, n=options.repeats, scope=f"batch:{batch_size}", why=_UNKNOWN)
                          for m, v in figures.items()]  # fmt: skip
                fastest[run.path.name, batch_size] = figures["real_time_factor"]
                cells.append([run.path.name, str(batch_size), *(_shown(figures[m]) for m in COLUMNS.values()),
                              figure(quality)])  # fmt: skip
                points = panels.setdefault(f"{batch_size} at once", {})
                points[run.path.name] = [(figures["real_time_factor"], quality)]
                log.info("%s, %d at once: real-time factor %.4f", run.path.name, batch_size,
                         figures["real_time_factor"])  # fmt: skip
        if not cells:
            continue
        tables.append((f"Sampling: {task}", ["run", "batch", *COLUMNS, title], cells))
        image = plots.lines_with_intervals(panels, "real-time factor", title)
        images.append((f"{task.capitalize()}: cost against quality; down and left is better", image))
        training, rows = _training(c, task)
        tables.append(training)
        found += rows
        for size in options.batches:
            of = {name: v for (name, s), v in fastest.items() if s == size}
            quickest = min(of, key=of.get)
            ratios = ", ".join(f"{name} {v / of[quickest]:.1f}" for name, v in of.items())
            answer.append(f"{task}, {size} at once: {quickest} is the fastest; times its time: {ratios}.")
    device = jax.devices()[0].device_kind
    text = (f"{len(jax.devices())} device(s) of kind {device}; peak {peak / 1e9:.0f} GFLOP/s, that of a float32 matrix "
            "product. Real-time factor: seconds of computing a second of speech, median of the timings, compiling "
            "left out; a prosody model's speech is what its phonemes last. Memory: arguments, results and "
            "temporaries of the compiled program. Quality is that of samples at temperature "
            f"{options.temperature:g}.")  # fmt: skip
    return Study("What do the families cost?", answer, found, [Section("Cost", text, images, tables)])


_UNKNOWN = "XLA does not tell"


def _sampling(run: Run, split: Split, batch_size: int, repeats: int, frame_seconds: float, peak: float) -> dict:
    """Figures of one batch of the split's utterances of median length."""
    lengths = np.array([len(u.mel) for u in split.utterances])
    order = np.argsort(lengths, kind="stable")
    middle = max(0, min(len(order) // 2 - batch_size // 2, len(order) - batch_size))
    chosen = [split.read_by(run).utterances[i] for i in order[middle : middle + batch_size]]
    arguments = run.variables, _batch(run, chosen), jax.random.key(0), 1.0
    guided = {} if run.guidance is None else {"guidance": run.guidance}
    sample = jax.jit(lambda *a: run.task.apply(*a, **guided, method="sample"))
    began = time.monotonic()
    program = sample.lower(*arguments).compile()
    compiled = time.monotonic() - began
    jax.block_until_ready(program(*arguments))
    seconds = []
    for _ in range(repeats):
        began = time.monotonic()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.monotonic() - began)
    took, speech = statistics.median(seconds), sum(len(u.mel) for u in chosen) * frame_seconds
    flop, memory = _operations(run, program, *arguments[:2]), program.memory_analysis()
    used = sum(getattr(memory, f"{kind}_size_in_bytes") for kind in ("argument", "output", "temp")) if memory else None
    return {
        "gflop": flop and flop / speech / 1e9,
        "compile_seconds": compiled,
        "real_time_factor": took / speech,
        "peak_share": flop and 100 * flop / took / peak,
        "memory_mb": used and used / 1e6,
    }


def _evaluations(run: Run) -> int:
    """Guidance asks the network twice, with and without labels."""
    return run.config.decoder.evaluations * (1 if run.guidance is None else 2)


def _batch(run: Run, chosen: list[Features]) -> dict[str, np.ndarray]:
    """Padded to the longest, without empty rows."""
    phonemes, frames = (-(-max(map(len, of)) // 4) * 4 for of in zip(*((u.phoneme, u.mel) for u in chosen)))
    if run.config.task == "prosody":
        return prosody_batch(chosen, run.stats, phonemes)
    return acoustic_batch([whole(u, run.stats) for u in chosen], run.stats, phonemes, frames)


def _operations(run: Run, program, variables, batch) -> float | None:
    """XLA counts the body of a solver's loop once: one step's evaluations, and DPM-Solver++'s last one beside it."""
    count, c = speed.operations(program, 1), run.config.decoder
    if count is None or not hasattr(c, "solver"):
        return count
    encode = jax.jit(lambda v, b: run.task.apply(v, b, None, method="condition"))
    encoder = speed.operations(encode.lower(variables, batch).compile(), 1) or 0.0
    counted = 2 if c.solver == "dpm++2m" else c.evaluations // c.solver_steps
    return encoder + c.evaluations * (count - encoder) / counted


def _training(c: Comparison, task: str) -> tuple[tuple, list[dict]]:
    """From metrics.jsonl: medians over the second half of the lines."""
    cells, rows = [], []
    for run in c.of_task(task):
        lines = read_lines(run.path / "metrics.jsonl")
        later = lines[len(lines) // 2 :]
        figures = {}
        for metric, key in (("training_positions", "positions_per_second"), ("step_seconds", "step_seconds")):
            values = [line[key] for line in later if key in line]
            figures[metric] = statistics.median(values) if values else None
        why = f"{run.path / 'metrics.jsonl'} does not tell"
        identity = c.identity(run, task, c.split, None, 1)
        rows += [make_row(identity, task, m, v, n=len(later), why=why) for m, v in figures.items()]
        cells.append([run.path.name, str(run.step), *map(_shown, figures.values())])
    unit = "phonemes" if task == "prosody" else "frames"
    header = ["run", "step", f"{unit} a second", "seconds a step"]
    return (f"Training: {task}, as logged when it ran", header, cells), rows


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
