"""Imports run one way. What this enforces, by the syntax trees of all modules (imports within functions included):

- the package's parts import only what stands for them in ALLOWED, which has no cycles: speech front end and features
  below batches, layers below encoder and decoders below tasks, training below runs, runs below evaluation, synthesis
  and conversion, the command on top;
- text, corpora, align, features and the metrics of evaluation import neither jax nor flax; flax is imported by models
  alone;
- the training machinery (flat, parallel, optimizers, steps, watchdog, window, speed, checkpoint, writer, training) sees
  nothing of speech;
- `import tts_gen.cli` and its --help load nothing heavy.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tts_gen"

ALLOWED = {
    "config": "",
    "progress": "",
    "text": "config",
    "corpora": "config text progress command",
    "align": "config text",
    "features": "config text corpora align progress",
    "stream": "",
    "plan": "config features stream",
    "batches": "config features plan",
    "draws": "",
    "layers": "",
    "encoder": "config draws layers",
    "text_encoder": "draws layers",
    "decoders": "config draws layers",
    "tasks": "config draws layers encoder decoders features",
    "joint": "config layers text_encoder",
    "front_end": "config text corpora",
    "flat": "",
    "parallel": "config flat",
    "optimizers": "config flat",
    "steps": "config draws flat optimizers parallel",
    "watchdog": "",
    "window": "",
    "speed": "",
    "checkpoint": "config flat parallel",
    "writer": "",
    "training": "config flat optimizers parallel steps speed watchdog window checkpoint writer",
    "finetune": "config features",
    "runs": "config features decoders tasks joint front_end flat checkpoint",
    "fit": "config features plan batches tasks parallel checkpoint finetune training runs",
    "torch_file": "config",
    "vocoders": "config layers features torch_file",
    "convert": "config features layers text_encoder decoders joint front_end runs torch_file vocoders",
    "evaluation": "config text corpora features plan batches draws runs vocoders torch_file progress command "
    "parallel speed synthesis writer web",
    "synthesis": "config text corpora features batches runs vocoders",
    "speech": "config command text corpora align features runs vocoders synthesis progress",
    "web": "config",
    "studio": "config command text speech synthesis runs vocoders web",
    "export": "config command text features draws flat runs vocoders",
    "vocoder_training": "config command features stream batches flat parallel checkpoint training runs vocoders writer "
    "evaluation",
    "inspection": "align config features vocoders evaluation progress",
    "demo": "config progress",
    "command": "config",
    "doors": "config command parallel fit runs vocoders evaluation",
    "sweep": "config command doors features runs writer checkpoint",
    "cli": "config command corpora features runs vocoders convert evaluation speech studio export sweep demo "
    "inspection vocoder_training",
}
"""part of the package -> parts it may import"""

NO_JAX = set("config text corpora align features stream plan batches writer torch_file demo sweep".split())
METRICS = {
    f"evaluation.{name}"
    for name in "metrics scores utterance_metrics dependence two_sample mel_metrics voicing discriminating "
    "significance failures diagnosis flat_files wav_folders measure".split()
}
FLAX = {"layers", "encoder", "text_encoder", "decoders", "tasks", "joint", "vocoders", "vocoder_training"}


def modules() -> dict[str, Path]:
    """Dotted name below tts_gen -> file."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = [
        f.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__") for f in files
    ]
    return {name: file for name, file in zip(names, files, strict=True) if name != "__init__"}


def imports(file: Path) -> set[str]:
    """Absolute names of all modules imported anywhere in a file; `from tts_gen import x` counts as tts_gen.x."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"tts_gen.{a.name}" for a in node.names} if node.module == "tts_gen" else {node.module}
    return found


def part(name: str) -> str:
    return name.split(".")[0]


def test_every_part_has_its_place():
    assert {part(name) for name in modules()} == set(ALLOWED)
    order = list(TopologicalSorter({p: below.split() for p, below in ALLOWED.items()}).static_order())  # no cycle
    assert set(order) == set(ALLOWED)


@pytest.mark.parametrize("name", modules())
def test_imports_run_one_way(name):
    own = {n.removeprefix("tts_gen.") for n in imports(modules()[name]) if n.startswith("tts_gen.")}
    forbidden = {n for n in own if part(n) not in {*ALLOWED[part(name)].split(), part(name)}}
    assert not forbidden, f"tts_gen.{name} imports {forbidden}"


@pytest.mark.parametrize("name", modules())
def test_jax_and_flax_stay_where_they_belong(name):
    roots = {n.split(".")[0] for n in imports(modules()[name])}
    if part(name) in NO_JAX or name in METRICS:
        assert not roots & {"jax", "flax", "optax", "orbax"}
    if part(name) not in FLAX:
        assert "flax" not in roots


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `code`."""
    show = "import sys; print('|'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split("|")}


def test_the_command_starts_without_anything_heavy():
    heavy = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "librosa", "scipy", "numpy", "pocketsphinx", "av",
             "matplotlib", "tensorboardX", "pyworld", "soundfile"}  # fmt: skip
    assert not loaded_by("import tts_gen.cli") & heavy
    help_page = (
        "import sys, tts_gen.cli\nsys.argv = ['tts-gen', '--help']\ntry: tts_gen.cli.main()\nexcept SystemExit: pass"
    )
    assert not loaded_by(help_page) & heavy


def test_features_and_metrics_load_no_jax():
    code = "import tts_gen.features.store, tts_gen.evaluation.flat_files, tts_gen.evaluation.wav_folders"
    assert not loaded_by(code) & {"jax", "flax", "grain"}
