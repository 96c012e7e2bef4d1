"""Several feature stores as one: one inventory, statistics of the weighted whole, and an index whose shards are those
of the stores, which are not copied."""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from tts_gen.config import UserError
from tts_gen.features.files import write_json
from tts_gen.features.index import Entry
from tts_gen.features.inventory import UNKNOWN, Inventory
from tts_gen.features.mixture import MIXTURE, Corpus, Mixture
from tts_gen.features.remote import is_address, relative, resolved
from tts_gen.features.stats import Stats
from tts_gen.features.store import AUDIO, INDEX, INVENTORY, SHARDS, STATS, FeatureStore, write_index
from tts_gen.progress import progress

log = logging.getLogger(__name__)

MOST = 1000
"""times that one weight may be another"""


@dataclass(frozen=True, eq=False)
class Counts:
    """Of the training split of a store: how often each phoneme of its inventory occurs, and voiced; how many voiced
    phonemes each speaker has."""

    phonemes: np.ndarray
    voiced: np.ndarray
    of_speaker: np.ndarray

    @classmethod
    def of(cls, store: FeatureStore, console: Console) -> "Counts":
        """Reads every training utterance once. Raises UserError for a damaged one."""
        inventory, train = store.inventory, store.split("train")
        phonemes, voiced = (np.zeros(len(inventory.phonemes), np.int64) for _ in range(2))
        of_speaker = np.zeros(len(inventory.speakers), np.int64)
        with progress(store.root.name, len(train), "utterances", console) as advance:
            for position in train:
                (u,) = store.read([position])
                np.add.at(phonemes, u.phoneme, 1)
                np.add.at(voiced, u.phoneme[u.voiced], 1)
                of_speaker[u.speaker] += np.count_nonzero(u.voiced)
                advance(1)
        return cls(phonemes, voiced, of_speaker)


def parse(texts: Sequence[str]) -> list[tuple[str, float]]:
    """(store, weight) of each STORE or STORE=WEIGHT. Raises UserError for a weight that is none."""
    found = []
    for text in texts:
        store, _, weight = text.rpartition("=")
        if not store or "/" in weight or Path(text).is_dir():
            store, weight = text, "1"
        try:
            value = float(weight)
        except ValueError:
            raise UserError(
                f"{text}: weight {weight!r} is not a number; give STORE=WEIGHT, such as {store}=2"
            ) from None
        if not 0 < value < math.inf:
            raise UserError(f"{text}: the weight is {weight}; give a number above 0, or leave the store out")
        found.append((store, value))
    weights = [weight for _, weight in found]
    if max(weights) > MOST * min(weights):
        raise UserError(f"weights {max(weights):g} and {min(weights):g}: one may be at most {MOST} times another")
    return found


def mix(root: str | Path, asked: Sequence[tuple[str, float]], console: Console | None = None) -> Mixture:
    """Writes the mixture of (store, weight) to `root`, and logs the share of each in training.

    Speakers, utterances and groups of one name in several stores become CORPUS.NAME in each; phonemes and styles of one
    name are the same. Raises UserError for fewer than two stores, the same one twice, a mixture, mel definitions that
    differ, a damaged record, and a `root` that holds a store that is no mixture.
    """
    console = console or Console(stderr=True)
    stores = _opened(root if is_address(root) else Path(root), [store for store, _ in asked])
    root = Path(root)
    names = _names([str(s.home) for s in stores])
    corpora = [
        Corpus(name, relative(_real(root), _real(s.home)), weight, len(s.index), s.index.fingerprint)
        for name, s, (_, weight) in zip(names, stores, asked, strict=True)
    ]
    mixture = Mixture(tuple(corpora))
    try:  # before what takes long
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{root} cannot be made a folder: {error}") from error
    counts = [Counts.of(store, console) for store in stores]
    speakers = _renamed(stores, names, "speaker")
    inventory = _inventory(stores, counts, speakers, mixture)
    index = list(_index(root, stores, names, speakers))
    (root / INDEX).unlink(missing_ok=True)  # what is half rewritten must not pass for a finished store
    write_json(root / AUDIO, asdict(stores[0].audio))
    inventory.save(root / INVENTORY)
    _stats(stores, counts, speakers, mixture, inventory).save(root / STATS)
    mixture.save(root)
    write_index(root, index)
    drawn = [len(s.split("train")) * rate for s, rate in zip(stores, mixture.rates, strict=True)]
    for name, store, rate, n in zip(names, stores, mixture.rates, drawn, strict=True):
        log.info("%s: %d training utterances, each drawn %.4g times an epoch: %.1f %% of those that training draws",
                 name, len(store.split("train")), rate, 100 * n / sum(drawn))  # fmt: skip
    trained = {e.text for e in index if e.split == "train"}
    held_out = [e for e in index if e.split != "train"]
    if known := sum(bool(e.text) and e.text in trained for e in held_out):
        log.warning("%d of %d held-out utterances have a text that some corpus trains on", known, len(held_out))
    return mixture


def _opened(root: Path, paths: Sequence[str]) -> list[FeatureStore]:
    if is_address(root):
        raise UserError(f"{root}: a mixture is written to a folder of this machine; copy it to an address then")
    if len(paths) < 2:
        raise UserError("a mixture needs two stores or more: tts-gen mix DIR STORE=WEIGHT STORE=WEIGHT")
    if (root / SHARDS).exists() or ((root / INDEX).exists() and not (root / MIXTURE).exists()):
        raise UserError(f"{root} is a feature store of its own; give another folder for the mixture")
    stores: dict[str, FeatureStore] = {}
    for path in paths:
        store = FeatureStore(path)
        if len(store.mixture.corpora) > 1:
            of = " ".join(c.store for c in store.mixture.corpora)
            raise UserError(f"{path} is a mixture itself; name the stores that it is made of: {of}")
        for other, known in stores.items():
            if known.fingerprint == store.fingerprint:
                raise UserError(f"{other} and {path} are the same store; give it once, with the sum of the weights")
            store.audio.check_equal(known.audio, path, other)
        stores[path] = store
    return list(stores.values())


def _real(home: str | Path) -> str:
    return str(home) if is_address(home) else os.path.realpath(home)


def _names(homes: Sequence[str]) -> list[str]:
    """The last part of each path or address; where two are the same, as many more parts as tell them apart. They
    become part of ids, which name files."""
    whole = [home if is_address(home) else os.path.abspath(home) for home in homes]
    parts = [[re.sub(r"[^\w.-]+", "-", part) for part in home.split("/") if part] for home in whole]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{', '.join(homes)} cannot be told apart by their names; rename a folder")


def _renamed(stores: Sequence[FeatureStore], names: Sequence[str], kind: str) -> list[dict[str, str]]:
    """Of each store name -> new name for values of a field of Entry. Raises UserError where new names meet others."""
    values = [{getattr(entry, kind) for entry in store.index} for store in stores]
    if kind == "speaker":
        values = [{*store.inventory.speakers} - {UNKNOWN} for store in stores]
    times = Counter(value for of_store in values for value in of_store)
    renamed = [
        {value: value if times[value] == 1 else f"{name}.{value}" for value in of_store}
        for name, of_store in zip(names, values, strict=True)
    ]
    again = Counter(new for of_store in renamed for new in of_store.values())
    if met := [new for new, n in again.items() if n > 1]:
        raise UserError(f"{kind} {met[0]} is one of a store, and a new name for another's; rename that store's folder")
    return renamed


def _inventory(
    stores: Sequence[FeatureStore], counts: Sequence[Counts], speakers: Sequence[dict], mixture: Mixture
) -> Inventory:
    """Whether a phoneme counts as voiced is the majority of what training draws."""
    phonemes, voiced = Counter(), Counter()
    for store, count, rate in zip(stores, counts, mixture.rates, strict=True):
        for symbol, n, v in zip(store.inventory.phonemes, count.phonemes.tolist(), count.voiced.tolist(), strict=True):
            phonemes[symbol] += n * rate
            voiced[symbol] += v * rate
    styles = {style for store in stores for style in store.inventory.styles}
    return Inventory.build(phonemes, voiced, {new for of in speakers for new in of.values()}, styles)


def _index(
    root: Path, stores: Sequence[FeatureStore], names: Sequence[str], speakers: Sequence[dict]
) -> Iterator[Entry]:
    ids, groups = (_renamed(stores, names, kind) for kind in ("id", "group"))
    shards = f"{_real(root)}/{SHARDS}"
    for i, store in enumerate(stores):
        where = {
            s: relative(Path(shards), resolved(f"{_real(store.home)}/{SHARDS}", s)) for s in store.index.shard_lengths
        }
        for e in store.index:
            yield replace(
                e, id=ids[i][e.id], group=groups[i][e.group], speaker=speakers[i].get(e.speaker, UNKNOWN),
                shard=where[e.shard],
            )  # fmt: skip


def _stats(
    stores: Sequence[FeatureStore], counts: Sequence[Counts], speakers: Sequence[dict], mixture: Mixture,
    inventory: Inventory,
) -> Stats:  # fmt: skip
    """Pooled over the stores; a speaker's are those of their store, the unlabelled ones' of all stores with any."""
    stats, rates = [store.stats for store in stores], np.array(mixture.rates, float)
    phonemes, frames = ([of[store.split("train")].sum() for store, of in zip(stores, column, strict=True)] for column in
                        ([s.index.n_phonemes for s in stores], [s.index.n_frames for s in stores]))  # fmt: skip
    unlabelled = np.array([c.of_speaker[0] for c in counts])
    if not unlabelled.any():
        unlabelled = np.array([max(c.of_speaker.sum(), 1) for c in counts])
    mean, std = _pooled([s.log_f0_mean[0] for s in stats], [s.log_f0_std[0] for s in stats], rates * unlabelled)
    rows = {UNKNOWN: (mean, std)}
    for store, of in zip(stores, speakers, strict=True):
        for old, new in of.items():
            i = store.inventory.speaker_id(old)
            rows[new] = store.stats.log_f0_mean[i], store.stats.log_f0_std[i]
    log_f0 = np.array([rows[name] for name in inventory.speakers])
    duration = _pooled(
        [s.log_duration_mean for s in stats], [s.log_duration_std for s in stats], rates * np.array(phonemes)
    )
    mel = _pooled([s.mel_mean for s in stats], [s.mel_std for s in stats], rates * np.array(frames))
    found = {
        "log_f0_mean": log_f0[:, 0], "log_f0_std": log_f0[:, 1],
        "log_duration_mean": duration[0], "log_duration_std": duration[1],
        "mel_mean": mel[0], "mel_std": mel[1],
    }  # fmt: skip
    if lacking := [str(s.home) for s in stores if s.stats.energy_mean is None]:
        log.warning("no energy: %s prepared before there was any; prepare it again, then mix again", lacking[0])
    else:
        pooled = _pooled([s.energy_mean for s in stats], [s.energy_std for s in stats], rates * np.array(phonemes))
        found |= dict(zip(("energy_mean", "energy_std"), pooled, strict=True))
    return Stats.from_dict(found)


def _pooled(means: Sequence, stds: Sequence, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the weighted whole, of those of its parts [...] each."""
    means, stds = np.asarray(means, np.float64), np.asarray(stds, np.float64)
    share = weights / weights.sum()
    mean = np.tensordot(share, means, 1)
    return mean, np.sqrt(np.tensordot(share, stds**2 + (means - mean) ** 2, 1))
