"""A pronunciation dictionary of a corpus in espeak-ng's IPA, which an aligner such as MFA can be trained with."""

from pathlib import Path

from tts_gen.config import UserError
from tts_gen.corpora import espeak, read_manifest


def write_dictionary(manifest: str | Path, path: str | Path) -> int:
    """Writes a line `word<tab>phone phone ...` for each word of the texts, as MFA reads it, and returns their number.

    Words are in lower case without punctuation around them, and are said as espeak-ng says them alone, by the voice of
    the utterance's `language`. Raises UserError for a manifest without texts, or with several languages, and for an
    unknown one.
    """
    utterances, _ = read_manifest(manifest)
    languages = sorted({u.language for u in utterances})
    if len(languages) > 1:
        raise UserError(f"{manifest}: languages {', '.join(languages)}; a dictionary is of one, so divide the manifest")
    pronounced = {}
    for word in sorted({_bare(token) for u in utterances for token in u.text.lower().split()} - {""}):
        phones = [phone for said in espeak.words(word, languages[0]) for phone in said.variants[0]]
        pronounced[word] = " ".join(phones)
    if not pronounced:
        raise UserError(f"{manifest}: no text, so no word for a dictionary")
    Path(path).write_text("".join(f"{word}\t{phones}\n" for word, phones in pronounced.items()), encoding="utf-8")
    return len(pronounced)


def _bare(token: str) -> str:
    """Without what is neither letter nor digit at its ends."""
    inside = [i for i, character in enumerate(token) if character.isalnum()]
    return token[inside[0] : inside[-1] + 1] if inside else ""
