"""LibriTTS and LibriTTS-R: about 2,450 speakers, 585 h of audiobooks. https://www.openslr.org/60, /141

    train-clean-100/SPEAKER/CHAPTER/SPEAKER_CHAPTER_PARAGRAPH_SENTENCE.wav, .normalized.txt, .original.txt
    train-clean-360, train-other-500, dev-clean, dev-other, test-clean, test-other likewise; any of them

The normalised text is taken. The names of the subsets are the official split, whose speakers are not those of the
training subsets; with training subsets alone chapters are held out. Sentences that LibriTTS-R's authors list as badly
restored (libritts_r_failed_speech_restoration_examples/SUBSET_bad_sample_list.txt, unpacked beside the subsets) are
dropped.
"""

from collections.abc import Iterator
from pathlib import Path

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import SPLIT_OF, expect, stems, with_text

LAYOUT = "LibriTTS"
HELP = f"{LAYOUT} and LibriTTS-R: train-clean-100/, dev-clean/, ..."
OPTIONS = {}
FAILED = "libritts_r_failed_speech_restoration_examples"


def read(source: Path) -> Iterator[Utterance | Drop]:
    for subset in expect(source, LAYOUT, "train-*", "dev-*", "test-*"):
        failed = source / FAILED / f"{subset.name}_bad_sample_list.txt"
        bad = {Path(line).stem for line in failed.read_text("utf-8").split()} if failed.is_file() else set()
        spoken, written = subset.glob("*/*/*.wav"), subset.glob("*/*/*.normalized.txt")
        for path in sorted(stems(spoken, ".wav") | stems(written, ".normalized.txt")):
            yield _utterance(path, SPLIT_OF[subset.name.partition("-")[0]], path.name in bad)


def _utterance(path: Path, split: str, bad: bool) -> Utterance | Drop:
    if bad:
        return Drop(path.name, "restoration failed", f"listed in {FAILED}")
    speaker, chapter = path.parts[-3:-1]
    text = path.with_name(f"{path.name}.normalized.txt")
    return with_text(
        path.name, path.with_name(f"{path.name}.wav"), text,
        speaker=speaker, split=split, group=f"{speaker}_{chapter}", licence="CC-BY-4.0",
    )  # fmt: skip
