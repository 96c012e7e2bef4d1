"""What an evaluation compares, and how: runs of one corpus, temperatures, samples, split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tts_gen import runs
from tts_gen.config import UserError
from tts_gen.evaluation.split import Split
from tts_gen.features.embeddings import FINGERPRINT, SpeakerEmbeddings
from tts_gen.features.files import read_json
from tts_gen.features.remote import is_address
from tts_gen.features.store import FeatureStore
from tts_gen.runs import AnyRun, Run


@dataclass(frozen=True)
class Comparison:
    """What was compared, and how."""

    out: Path
    store: FeatureStore
    runs: list[AnyRun]
    temperatures: tuple[float, ...]
    mel_temperatures: tuple[float, ...]
    samples: int
    split: str
    seed: int
    ode_likelihood: bool = False

    def of_task(self, task: str) -> list[AnyRun]:
        return [run for run in self.runs if run.config.task == task]

    @property
    def splits(self) -> dict[str, Split]:
        """The one that choices are made on, and the one that is reported."""
        return {name: Split.read(self.store, name) for name in dict.fromkeys(("val", self.split))}

    def grid(self, run: AnyRun) -> list[float | None]:
        """Temperatures a run is sampled at; [None] where there is no noise to scale."""
        if not run.config.decoder.generative:
            return [None]
        return list(self.mel_temperatures if run.config.task == "acoustic" else self.temperatures)

    def count(self, run: AnyRun, temperature: float | None) -> int:
        """Samples of each utterance: one mel, and one of what is deterministic."""
        return self.samples if run.config.task != "acoustic" and temperature is not None else 1

    def identity(self, run: AnyRun | None, task: str, split: str, temperature: float | None, samples: int) -> dict:
        solver = getattr(run.config.decoder, "solver", None) if run else None
        guidance = {"guidance": run.guidance} if run and run.guidance is not None else {}
        return guidance | {
            "task": task,
            "family": run.label if run else None,
            "temperature": temperature,
            "corpus": self.store.root.name,
            "split": split,
            "run": str(run.path) if run else None,
            "seed": self.seed,
            "solver": solver,
            "steps": getattr(run.config.decoder, "solver_steps", None) if solver else None,
            "samples": samples,
        }


def open_comparison(
    paths: Sequence[Path], out: Path, temperatures: Sequence[float], samples: int, split: str, seed: int,
    features: str | Path | None = None, solver: dict | None = None, ode_likelihood: bool = False,
    mel_temperatures: Sequence[float] | None = None, guidance: float = 0.0, embeddings: Path | None = None,
) -> Comparison:  # fmt: skip
    """`solver`: decoder fields for the runs that have one. `mel_temperatures`: where mels are not sampled at all of
    `temperatures`; each costs as much as a whole sweep of prosody. `guidance`: scale of classifier-free guidance, of
    samples; likelihoods are the model's own. `embeddings`: speaker embeddings, if not the file that runs trained with.

    Raises UserError for a directory that is no run, runs that do not fit the features, two runs of one name, a solver
    that a family does not have, runs that cannot be guided, and temperatures below 0.
    """
    for temperature in (*temperatures, *(mel_temperatures or ())):
        runs.check_temperature(temperature)
    loaded = [runs.load(path, guidance=guidance) for path in paths]
    loaded = [
        runs.load(run.path, solver, guidance) if solver and hasattr(run.config.decoder, "solver") else run
        for run in loaded
    ]
    names = [run.path.name for run in loaded]
    if len(set(names)) < len(names):
        raise UserError(
            f"runs are told apart by their folder's name, and two of these are the same: {', '.join(names)}"
        )
    native = [run for run in loaded if isinstance(run, Run)]
    if not features and not native:
        raise UserError("no run among these was trained on features: name those to evaluate on with --features DIR")
    store = FeatureStore(features or _trained_on(native[0]))
    for run in native:
        runs.check_features(run.path, run.audio, run.inventory, run.stats, store)
    for run in loaded:
        store.audio.check_equal(run.audio, str(store.root), str(run.path))
    if embeddings and not any(run.speaker_embeddings is not None for run in native):
        raise UserError("--speaker-embeddings: none of these runs was trained with speaker embeddings")
    for run in native:
        if run.config.energy and store.stats.energy_mean is None:
            raise UserError(f"{store.root} has no statistics of energy, which {run.path} models; give the same tts-gen "
                            "prepare command again, which adds them and leaves the rest")  # fmt: skip
    loaded = [_with_embeddings(run, store, split, embeddings) for run in loaded]
    mels = tuple(mel_temperatures or temperatures)
    return Comparison(out, store, loaded, tuple(temperatures), mels, samples, split, seed, ode_likelihood)


def _with_embeddings(run: AnyRun, store: FeatureStore, split: str, given: Path | None) -> AnyRun:
    """A run that was trained with speaker embeddings, with those of the utterances to evaluate on. Raises UserError
    where they are not to be had, or others than were trained with and not `given`."""
    if not isinstance(run, Run) or run.speaker_embeddings is None:
        return run
    path = given or Path(run.config.data.speaker_embeddings)
    if not path.is_file():
        raise UserError(
            f"{run.path} was trained with the speaker embeddings {path}, which are not there (seen from {Path.cwd()}): "
            "name them with --speaker-embeddings FILE"
        )
    found, width = SpeakerEmbeddings.read(path), run.speaker_embeddings.shape[1]
    if found.vectors.shape[1] != width:
        raise UserError(f"{path}: vectors have {found.vectors.shape[1]} values; {run.path} was trained with {width}")
    if not given and found.fingerprint != read_json(run.path / "features.json").get(FINGERPRINT):
        raise UserError(
            f"{path} changed since {run.path} was trained with it: put it back as it was, or, if these vectors are "
            f"meant, give --speaker-embeddings {path}"
        )
    found.check(store, ("val", split))
    return replace(run, embeddings=found)


def _trained_on(run: Run) -> str:
    """The run's feature store. Raises UserError where it is not to be found from here."""
    features = run.config.data.features
    if not is_address(features) and not Path(features).is_dir():
        raise UserError(
            f"{run.path} was trained on the features {features}, which are not there (seen from {Path.cwd()}): name "
            "those to evaluate on with --features DIR (of transfer, --own DIR)"
        )
    return features
