"""Every layout, of real (synthetic) speech: corpus, prepare, twenty training steps."""

import numpy as np
import pytest
from layouts import MAKERS, Clip, speech
from models import losses, small_config

from tts_gen import fit
from tts_gen.corpora.readers import READERS
from tts_gen.corpora.reading import build
from tts_gen.features.prepare import prepare


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return speech()


@pytest.mark.parametrize("name", READERS)
def test_a_model_trains_on_every_layout(name, clips, tmp_path):
    made = MAKERS[name](tmp_path, clips)
    manifest = build(name, tmp_path / "corpus", made.source, **made.options)
    report = prepare(manifest, tmp_path / "features", workers=1)
    assert {drop.reason for drop in report.drops} == ({"language without aligner"} if name == "esd" else set())
    config = small_config(features=tmp_path / "features", buckets=(64,), steps=20, save_every=20)
    fit.train(config, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert len(found) == 20 and np.isfinite(list(found.values())).all()
