"""`tts-gen vocoder`: its options, and what they do."""

import argparse
from dataclasses import replace
from pathlib import Path

from tts_gen import command

_TRAIN = "HiFi-GAN trained or fine-tuned on a prepared corpus; meant for GPUs and TPUs"
_EPILOG = (
    "Start it again to go on. OUT/generator.npz is what --vocoder takes: the generator with the lowest error of mels "
    "on val."
)


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("vocoder", help="train a vocoder")
    sub = command.subcommand(parser.add_subparsers(dest="what", required=True, metavar="WHAT"), "train", _train, _TRAIN)
    sub.epilog = _EPILOG
    sub.add_argument("store", metavar="STORE", help="prepared corpus; its recordings are read where they lie")
    sub.add_argument("out", type=Path, metavar="OUT", help="directory of the run")
    start = "what to start from: hifigan (the public weights), a checkpoint file, or a new v1, v2 or v3"
    sub.add_argument("--from", dest="start", default="hifigan", metavar="START", help=start)
    mels = "acoustic run whose mels, of the recordings' prosody, are given; the recordings' own if not given"
    sub.add_argument("--mels", default="", metavar="RUN", help=mels)
    sub.add_argument("--temperature", type=command.not_negative, default=1.0, help="of the samples of --mels")
    sub.add_argument("--batch", type=command.count, default=16, help="stretches in a step, over all devices")
    sub.add_argument("--frames", type=command.count, default=32, help="length of a stretch")
    narrow = "divides the channels of the discriminators, which are the paper's with 1; 8 at most"
    sub.add_argument("--narrow", type=command.count, default=1, choices=(1, 2, 4, 8), help=narrow)
    sub.add_argument("--steps", type=command.count, default=10000)
    sub.add_argument("--learning-rate", type=command.positive, default=2e-4)
    saved = "between validations, each with a checkpoint, and sound in TensorBoard"
    sub.add_argument("--save-every", type=command.count, default=1000, metavar="STEPS", help=saved)
    sub.add_argument("--log-every", type=command.count, default=50, metavar="STEPS")
    sub.add_argument("--seed", type=command.whole, default=0)
    command.add_processes(sub, "which share the training; each starts this command")


def _train(options: argparse.Namespace) -> None:
    from tts_gen import parallel
    from tts_gen.features.store import FeatureStore
    from tts_gen.vocoder_training.train import Settings, train

    command.use_compile_cache()
    given = vars(options)
    s = Settings(**{name: given[name] for name in ("start", "mels", "temperature", "batch", "frames", "narrow")})
    loop = {name: given[name] for name in ("steps", "learning_rate", "save_every", "log_every", "seed")}
    s = replace(s, train=replace(s.train, **loop, sample_every=options.save_every))
    with parallel.processes(options.coordinator, options.processes, options.process):
        train(FeatureStore(options.store), options.out, s)
