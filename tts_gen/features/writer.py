"""Writing a feature store: shards one by one, then the index, inventory and statistics made from all of them."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance
from tts_gen.features import record
from tts_gen.features.files import replacing, write_json
from tts_gen.features.index import Entry, Index
from tts_gen.features.inventory import UNKNOWN, Inventory, training_labels
from tts_gen.features.record import Record
from tts_gen.features.stats import Stats, StatsBuilder
from tts_gen.features.store import AUDIO, INDEX, INVENTORY, SHARDS, STATS, RecordReader, write_index
from tts_gen.text import PAUSE


def write_shard(path: Path, payloads: Sequence[bytes]) -> None:
    """An ArrayRecord file with one record a payload, whole or absent. Raises OSError when it cannot be written."""
    from array_record.python.array_record_module import ArrayRecordWriter

    with replacing(path) as temporary:
        try:
            writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for payload in payloads:
                writer.write(payload)
            writer.close()
        except RuntimeError as error:
            raise OSError(str(error)) from error


def entry(utterance: Utterance, shard: str, position: int, n_phonemes: int, n_frames: int, checksum: int) -> Entry:
    """The index line of an utterance whose record stands at `position` of `shard`."""
    return Entry(
        id=utterance.id,
        n_phonemes=n_phonemes,
        n_frames=n_frames,
        speaker=utterance.speaker or UNKNOWN,
        style=utterance.style or UNKNOWN,
        split=utterance.split,
        group=utterance.group or utterance.id,
        text=utterance.text,
        audio=os.path.abspath(utterance.audio),
        checksum=checksum,
        shard=shard,
        position=position,
    )


def finish(root: Path, audio: Audio, index: Sequence[Entry]) -> bool:
    """Makes the store readable: inventory and statistics over the training split, then the index. False: already so.

    Speakers and styles outside the training split become "unknown". Raises UserError when nothing is left to train on.
    """
    if not any(e.split == "train" for e in index):
        raise UserError(f"{root}: no utterance of the training split was kept, so there are no statistics")
    speakers = training_labels([(e.speaker, e.split) for e in index], "speaker")
    styles = training_labels([(e.style, e.split) for e in index], "style")
    index = [
        replace(
            e,
            speaker=e.speaker if e.speaker in speakers else UNKNOWN,
            style=e.style if e.style in styles else UNKNOWN,
        )
        for e in index
    ]
    there = all((root / name).is_file() for name in (AUDIO, STATS, INVENTORY, INDEX))
    # Stores prepared before there was energy get its statistics.
    if there and list(Index(root / INDEX)) == index and Stats.load(root / STATS).energy_mean is not None:
        return False
    (root / INDEX).unlink(missing_ok=True)  # what is half rewritten must not pass for a finished store
    counts, voiced, builder = Counter(), Counter(), StatsBuilder()
    elsewhere = set()
    lengths: dict[str, int] = {}
    for e in index:
        lengths[e.shard] = max(lengths.get(e.shard, 0), e.position + 1)
    for e, values in RecordReader(root, lengths).read_all(index):
        if e.split != "train":
            elsewhere.update(values["symbols"])
            continue
        counts.update(values["symbols"])
        voiced.update(np.array(values["symbols"])[~np.isnan(values["log_f0"])].tolist())
        builder.add(e.speaker, values["log_f0"], values["duration"], values["mel"])
    if unseen := sorted(elsewhere - set(counts) - {PAUSE}):
        logging.getLogger(__name__).warning(
            "phonemes %s: none in the training split; alignment.csv has the utterances", ", ".join(unseen)
        )
        counts.update({symbol: 0 for symbol in unseen})
    inventory = Inventory.build(counts, voiced, speakers, styles)
    inventory.save(root / INVENTORY)
    builder.stats(inventory.speakers).save(root / STATS)
    write_json(root / AUDIO, asdict(audio))
    write_index(root, index)
    return True


def write_store(root: Path, audio: Audio, items: Iterable[tuple[Utterance, Record]]) -> None:
    """A whole store, in one shard, from features that are already there (simulated ones, say)."""
    (root / SHARDS).mkdir(parents=True, exist_ok=True)
    name = "00000.array_record"
    utterances, records = zip(*items, strict=True)
    payloads = [record.pack(r) for r in records]
    write_shard(root / SHARDS / name, payloads)
    rows = zip(utterances, range(len(records)), records, payloads, strict=True)
    finish(root, audio, [entry(u, name, i, len(r.phonemes), len(r.mel), record.checksum(p)) for u, i, r, p in rows])
