"""Speed of text to speech by stage, for each pair of a prosody and an acoustic run of a family.

    python scripts/bench_speech.py RUNS [--batches 1,16] [--repeats 3]
    python scripts/bench_speech.py RUNS --minutes 10       one long text: time to its wav, peak memory

RUNS is the demo's directory, or another with prosody_{l2,flow,diffusion} and acoustic_{l1,flow,diffusion}. Real-time
factors are seconds of computing a second of speech, the median of the repeats; compiling is left out. A few minutes on
2 cores.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import jax

from tts_gen import runs, synthesis, vocoders
from tts_gen.command import use_compile_cache
from tts_gen.config import UserError
from tts_gen.corpora.sentences import sentences
from tts_gen.synthesis import Controls
from tts_gen.text.pieces import pieces

PAIRS = (("prosody_l2", "acoustic_l1"), ("prosody_flow", "acoustic_flow"), ("prosody_diffusion", "acoustic_diffusion"))


def timed(function, *args):
    began = time.perf_counter()
    found = jax.block_until_ready(function(*args))
    return time.perf_counter() - began, found


def stages(texts: list[str], prosody, acoustic, vocoder, controls: Controls) -> tuple[dict[str, float], float]:
    """Seconds by stage, and of speech."""
    front, sentences = timed(lambda: [synthesis.read(t, prosody, controls) for t in texts])
    intoned, sentences = timed(synthesis.intone, sentences, prosody, controls)
    voiced, spoken = timed(synthesis.voice, sentences, acoustic, controls)
    sounded, waves = timed(lambda: [vocoder(s.mel) for s in spoken])
    speech = sum(len(w) for w in waves) / acoustic.audio.sample_rate
    return {"front end": front, "prosody": intoned, "mels": voiced, "vocoder": sounded}, speech


def by_stage(folder: Path, texts: list[str], sizes: list[int], repeats: int) -> None:
    vocoder = vocoders.load("auto")
    print(f"vocoder {vocoder.name}; real-time factor by stage, and seconds until the first sentence's wave is there")
    for names in PAIRS:
        prosody, acoustic = (runs.load(folder / name) for name in names)
        for size in sizes:
            chosen = texts[:size]
            stages(chosen, prosody, acoustic, vocoder, Controls())
            found = [stages(chosen, prosody, acoustic, vocoder, Controls(seed=i)) for i in range(repeats)]
            factor = {name: statistics.median(t[name] / s for t, s in found) for name in found[0][0]}
            told = "  ".join(f"{name} {value:.4f}" for name, value in factor.items())
            first = statistics.median(sum(t.values()) for t, _ in found)
            latency = f"  first sound {first:.2f} s" if size == 1 else ""
            print(f"{' + '.join(names)}, {size} at once: {told}  all {sum(factor.values()):.4f}{latency}", flush=True)


def long_text(folder: Path, texts: list[str], minutes: float) -> None:
    prosody, acoustic = (runs.load(folder / name) for name in PAIRS[1])
    vocoder, controls = vocoders.load("auto"), Controls()
    stages(texts[:1], prosody, acoustic, vocoder, controls)
    start, began, made, seconds, part = peak(), time.perf_counter(), [], 0.0, 0
    divided = pieces(" ".join(text for text in texts if can_say(text, prosody, controls)))
    while seconds < 60 * minutes:
        read = [synthesis.read(p, prosody, controls) for p in divided[32 * part : 32 * part + 32]]
        made += synthesis.voice(synthesis.intone(read, prosody, controls, part), acoustic, controls, part)
        seconds, part = sum(len(s.mel) for s in made) * acoustic.audio.frame_seconds, part + 1
    mels = time.perf_counter() - began
    wave = vocoder(synthesis.joined(made).mel)
    print(
        f"{seconds / 60:.1f} minutes of speech: mels after {mels:.1f} s, wave after {time.perf_counter() - began:.1f} s"
    )
    print(
        f"peak memory {peak():.0f} MB, {peak() - start:.0f} over that after one sentence; the wave {wave.nbytes >> 20}"
    )


def can_say(text: str, prosody, controls: Controls) -> bool:
    """A small corpus may lack a phoneme."""
    try:
        return bool(synthesis.read(text, prosody, controls))
    except UserError:
        return False


def peak() -> float:
    """MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--batches", default="1,16", help="comma list")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="one long text instead")
    options = parser.parse_args()
    use_compile_cache()
    if options.minutes:
        long_text(options.runs, [text for text, _ in sentences(500)], options.minutes)
    else:
        sizes = [int(size) for size in options.batches.split(",")]
        by_stage(options.runs, [text for text, _ in sentences(max(sizes))], sizes, options.repeats)


if __name__ == "__main__":
    main()
