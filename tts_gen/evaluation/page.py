"""The report of a comparison: rows, samples, curves and audio put together."""

import html
from pathlib import Path

import numpy as np

from tts_gen.evaluation import diagnosis, plots, rows, significance
from tts_gen.evaluation.compare import generated_mels, generated_prosody
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import oracle_prosody, sayable
from tts_gen.evaluation.headline import LABELS, Tables, features_of, headline, judged, shown
from tts_gen.evaluation.metrics import edges_for
from tts_gen.evaluation.prosody import Prosody
from tts_gen.evaluation.report import HOW_TO_READ, HOW_TO_READ_MELS, Section, commands, write_report
from tts_gen.evaluation.seeds import but_the_seed
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.outputs import latex
from tts_gen.features.files import write_text
from tts_gen.runs import Run
from tts_gen.writer import read_lines

EXAMPLES = 2
"""utterances shown as curves, mels and audio"""
SHOWN_TEMPERATURES = 3
"""of a sweep, in the histograms"""


def write_page(
    c: Comparison, found: list[dict], chosen: dict[str, float], command_lines: list[str], banner: str | None = None,
    speech: list[tuple[str, str, Path]] = (), vocoder=None,
) -> Path:  # fmt: skip
    """OUT/report.html, OUT/discriminating.md and OUT/significance.{csv,md,tex}. `speech`: (sentence, system, wav) of
    synthesised ones; `vocoder` makes the held-out mels audible."""
    split = Split.read(c.store, c.split)
    sections = []
    if c.of_task("prosody"):
        sections += _prosody_sections(c, found, chosen, split)
    for task in ("acoustic", "joint"):
        if c.of_task(task):
            sections += _mel_sections(c, found, chosen, split, vocoder, task)
    if speech:
        text = "Text to speech, prosody and mel both generated, at the temperatures chosen on the validation split."
        sections.append(Section("Synthesised sentences", text, audio=list(speech)))
    at_chosen = {task: shown(found, task, _by_run(c, chosen), c.split)[1] for task in ("prosody", "acoustic", "joint")}
    sections.append(_diagnosis_section(found, at_chosen))
    sections.append(_training_section(c))
    tables = [table for task in ("prosody", "acoustic") for table in judged(found, task, _by_run(c, chosen), c.split)]
    for name in ("discriminating.md", "significance.csv", "significance.md", "significance.tex"):
        (c.out / name).unlink(missing_ok=True)  # of an evaluation of other runs
    if any(cells for *_, cells in tables):
        sections.append(_judged_section(c, tables))
    tests = [test for of in at_chosen.values() for test in significance.differences(of)]
    if tests:
        sections.append(_tests_section(c, tests))
    header, cells = rows.table([r for r in found if r["split"] == c.split])
    sections.append(Section("All figures", "As in summary.json.", tables=[("", header, cells)], collapsed=True))
    sections.append(Section("Commands", commands(command_lines)))
    entries = [c.store.index[p] for p in split.positions]
    seconds = sum(e.n_frames for e in entries) * c.store.audio.frame_seconds
    lead = (
        f"<p>Corpus <strong>{html.escape(c.store.root.name)}</strong>: {len(c.store.index)} utterances, "
        f"{len(c.store.inventory.speakers) - 1 or 1} speaker(s); reported on the {len(entries)} utterances "
        f"({seconds / 60:.1f} minutes) of split <strong>{html.escape(c.split)}</strong>. Temperatures, checkpoints and "
        "scales were chosen on the validation split.</p>"
    )
    path = c.out / "report.html"
    write_report(path, "Regression, flow or diffusion?", lead, banner, sections)
    return path


def headline_tables(c: Comparison, found: list[dict], chosen: dict[str, float], task: str):
    """Tables at the chosen temperatures, for page and terminal."""
    return headline(found, task, _by_run(c, chosen), c.split)


def _by_run(c: Comparison, chosen: dict[str, float]) -> dict[tuple[str, str], float]:
    return {(run.label, str(run.path)): chosen[run.path.name] for run in c.runs if run.path.name in chosen}


def _temperature(run: Run, chosen: dict[str, float]) -> float | None:
    return chosen.get(run.path.name)


TITLES = {"log_f0": "Log-f0", "duration": "Duration", "energy": "Energy"}


def _titles(found_runs: list[Run]) -> dict[str, Run]:
    """Runs by family label, or by folder where a family has several; of those that differ in their seed alone the
    first, since pictures of all would tell no more."""
    found_runs = list({but_the_seed(run): run for run in reversed(found_runs)}.values())[::-1]
    labels = [run.label for run in found_runs]
    return {run.label if labels.count(run.label) == 1 else run.path.name: run for run in found_runs}


def _prosody_sections(c: Comparison, found: list[dict], chosen: dict[str, float], split: Split) -> list[Section]:
    oracle = oracle_prosody(split, c.store)
    of_family = _titles(c.of_task("prosody"))
    generated = {
        family: {t: generated_prosody(c, run, split, oracle, t) for t in _shown(c.grid(run))}
        for family, run in of_family.items()
    }
    tuned = {
        family: generated_prosody(c, run, split, oracle, _temperature(run, chosen)) for family, run in of_family.items()
    }
    curves = {
        feature: {"std ratio": (feature, "std_ratio"), "JS": (feature, "js"), "best of K": (feature, "best_of_k")}
        for feature in features_of(found, "prosody")
    }
    table = headline_tables(c, found, chosen, "prosody")
    prosody = [r for r in found if r["task"] == "prosody" and rows.RUN_COUNT not in r]
    target = {"std_ratio": 1.0}
    return [
        Section("Prosody", HOW_TO_READ, tables=table),
        Section(
            "Prosody against temperature",
            images=[
                (TITLES[feature], plots.temperature_curves(prosody, of, c.split, target))
                for feature, of in curves.items()
            ],
        ),
        Section(
            "Distributions", "Generated (lines) over the recordings' (grey).", images=_histograms(oracle, generated)
        ),
        Section("Log-f0 and duration together", _TOGETHER, [("", _scatter(oracle, tuned))]),
        Section("Melodies", _MELODIES, _melodies(c, split, oracle, tuned)),
    ]


_TESTS = (
    "Differences between families on the same utterances, paired by group: Wilcoxon's signed-rank and Student's t test "
    "of what each group has by itself (errors, scores), the studentised bootstrap over groups of what is a "
    f"distribution's or a ratio of sums. {significance.STAR}: p is below {significance.ALPHA:g} when corrected by "
    "Holm-Bonferroni for the pairs of families on that metric and test."
)
_JUDGED = (
    "A metric discriminates on this corpus if the interval of every control lies beyond the floor's, or the best "
    "family's where there is no floor. The control of another utterance is real prosody, only to another text: "
    "whatever does not compare with the text's own recording reaches it."
)
_TOGETHER = (
    "Voiced phonemes of one sample of each family at its chosen temperature (colour) over the recordings' (grey). How "
    "much either tells of the other is <code>mutual_information</code> in the table of all figures."
)
_MELODIES = "Several samples of each family at its chosen temperature over the recording's f0, phoneme by phoneme."


def _shown(grid: list[float | None]) -> list[float | None]:
    """The lowest, a middle and the highest of a sweep, and 1."""
    if len(grid) <= SHOWN_TEMPERATURES:
        return grid
    return sorted({grid[0], grid[len(grid) // 2], 1.0 if 1.0 in grid else grid[-1], grid[-1]})


def _histograms(oracle: Prosody, generated: dict[str, dict[float | None, Prosody]]) -> list[tuple[str, bytes]]:
    images = []
    pools = {"log_f0": oracle.voiced & ~oracle.pause, "duration": ~oracle.pause, "energy": ~oracle.pause}
    units = {"log_f0": "standard deviations of the speaker's log-f0", "duration": "frames",
             "energy": "standard deviations of energy"}  # fmt: skip
    for feature, pool in pools.items():
        sets = {f: {t: getattr(p, feature) for t, p in of.items()} for f, of in generated.items()}
        sets = {f: of for f, of in sets.items() if all(x is not None for x in of.values())}
        if not sets:
            continue
        truth = getattr(oracle, feature)[pool]
        values = {f: {t: x[..., pool] for t, x in of.items()} for f, of in sets.items()}
        image = plots.histograms(truth, values, edges_for(feature, truth), units[feature])
        images.append((TITLES[feature], image))
    return images


def _scatter(oracle: Prosody, tuned: dict[str, Prosody]) -> bytes:
    pool = oracle.voiced & ~oracle.pause

    def pairs(p: Prosody) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.atleast_2d(x)[0][pool] for x in (p.duration, p.log_f0))

    units = "frames", "log-f0, standard deviations"
    return plots.scatters(pairs(oracle), {family: pairs(p) for family, p in tuned.items()}, units)


def _examples(split: Split) -> list[int]:
    """Utterances to show: the ones nearest to three seconds in length, in the order of the split."""
    frames = np.array([len(u.mel) for u in split.utterances])
    return sorted(np.argsort(np.abs(frames - 3 * 86), kind="stable")[:EXAMPLES].tolist())


def _melodies(c: Comparison, split: Split, oracle: Prosody, tuned: dict[str, Prosody]) -> list[tuple[str, bytes]]:
    images = []
    for i in _examples(split):
        entry, at = c.store.index[split.positions[i]], oracle.utterance == i
        mean = c.store.stats.log_f0_mean[split.utterances[i].speaker]
        hertz = lambda x, at=at, mean=mean: np.exp(x[..., at] * oracle.log_f0_std[at] + mean)  # noqa: E731
        curves = {f: hertz(np.atleast_2d(p.log_f0))[:5] for f, p in tuned.items()}
        seconds = oracle.duration[at] * oracle.frame_seconds
        images.append((entry.text, plots.f0_curves(hertz(oracle.log_f0), curves, seconds)))
    return images


def _mel_sections(c, found, chosen, split, vocoder, task: str) -> list[Section]:
    of_family = _titles(c.of_task(task))
    if task == "joint":
        split = sayable(c.of_task(task), c.store, split)
    mels = {family: generated_mels(c, run, split, _temperature(run, chosen)) for family, run in of_family.items()}
    images, audio = [], []
    for i in _examples(split):
        entry = c.store.index[split.positions[i]]
        text, heading = entry.text, f"{entry.text} ({entry.id})"  # texts recur
        panels = {"Recording": split.utterances[i].mel} | {f: m[i] for f, m in mels.items()}
        images.append((text, plots.mels(panels, c.store.audio.frame_seconds)))
        for title, mel in panels.items() if vocoder else ():
            audio.append((heading, LABELS.get(title, title), (vocoder(mel), c.store.audio.sample_rate)))
    table = headline_tables(c, found, chosen, task)
    title, source = {
        "acoustic": ("Mel-spectrograms", "From the recordings' own prosody."),
        "joint": ("Mel-spectrograms from text", "From the text alone, with the models' own durations."),
    }[task]
    return [
        Section(title, HOW_TO_READ_MELS, tables=table),
        Section(f"{title}, side by side", source, images=images, audio=audio),
    ]


def _diagnosis_section(found: list[dict], at_chosen: dict[str, list[dict]]) -> Section:
    every = [f for of in at_chosen.values() for f in diagnosis.findings(of, found)]
    sentences = [f.sentence for f in every if f.found] or ["No sign of failure was found."]
    text = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    return Section("Diagnosis", text, tables=[("Signs of failure", *diagnosis.table(every))])


def _judged_section(c: Comparison, tables: Tables) -> Section:
    """Written to a file of its own too."""
    tables = [(caption, header, cells) for caption, header, cells in tables if cells]
    write_text(c.out / "discriminating.md", f"{_JUDGED}\n\n{rows.markdown_tables(tables)}")
    return Section("Which metrics discriminate", _JUDGED, tables=tables, collapsed=True)


def _tests_section(c: Comparison, tests: list[dict]) -> Section:
    """Written to files of their own too."""
    header, cells = significance.table(tests)
    rows.write_cells(*significance.table(tests, digits=None), c.out / "significance.csv")
    write_text(c.out / "significance.md", f"{_TESTS}\n\n{rows.markdown(header, cells)}")
    write_text(c.out / "significance.tex", latex(_TESTS, header, cells))
    return Section("What differs significantly", f"<p>{_TESTS}</p>", tables=[("", header, cells)], collapsed=True)


def _training_section(c: Comparison) -> Section:
    curves = {}
    for task in ("prosody", "acoustic"):
        of = {}
        for family, run in _titles(c.of_task(task)).items():
            lines = read_lines(run.path / "metrics.jsonl")
            found = [(line["step"], line["val_loss"]) for line in lines if line.get("val_loss") is not None]
            of[family] = tuple(zip(*found, strict=True)) if found else ((), ())
        if of:
            curves[task] = of
    text = "Validation loss of the running mean of the parameters. Losses of different families have different units."
    sizes = [
        [run.path.name, f"{run.parameters['encoder']:,}", f"{run.parameters['decoder']:,}", str(run.step)]
        for run in c.runs
    ]
    table = ("Parameters, and the step with the lowest validation loss", ["run", "encoder", "decoder", "step"], sizes)
    return Section("Training", text, images=[("", plots.curves(curves, "loss"))] if curves else [], tables=[table])
