"""Several processes of one evaluation: each makes its share of the samples, in a folder that all see; the first
evaluates them."""

import logging
import time

import jax

from tts_gen import parallel
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import make_samples, samples_path
from tts_gen.runs import Run

log = logging.getLogger(__name__)


def share_samples(c: Comparison) -> None:
    """Returns when all processes have made their shares of the samples that `compare` asks for. Joint runs, whose
    batches are not parts of a split, are left to it."""
    process, processes = jax.process_index(), jax.process_count()
    began = time.monotonic()
    for run in (run for run in c.runs if isinstance(run, Run)):
        for split in c.splits.values():
            for temperature in c.grid(run):
                folder = samples_path(c.out, run, split.name, temperature)
                make_samples(run, split, temperature, c.count(run, temperature), c.seed, folder, process, processes)
    log.info("process %d of %d: its samples took %.1f s", process, processes, time.monotonic() - began)
    parallel.agree("")
