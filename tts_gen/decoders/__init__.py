"""The decoder protocol and the registry of families.

A decoder models p(y | cond) for masked sequences and knows nothing of speech. Its module has three methods:

    loss(y[B,L,C], cond[B,L,D], mask[B,L], rng, train)   -> [B,L]     per position, mean over C; not yet masked or
    averaged
    sample(cond[B,L,D], mask[B,L], rng, temperature, null=None, guidance=0.0)
                                                         -> [B,L,C]   temperature multiplies the standard deviation of
    all noise; null [B,L,D] is cond without labels, for classifier-free guidance (`guidance.py`)
    log_prob(y[B,L,C], cond[B,L,D], mask[B,L], rng)      -> [B], [B]  nats over valid positions and channels; standard
    error

L is a multiple of 4 and so is every valid length (prosody: of 2); the task sees to both. A new family is one file with
a settings dataclass that builds its module and says what the family has (`config.Decoder`), one line here, and a
config.
"""

from tts_gen.decoders.diffusion import Diffusion
from tts_gen.decoders.flow import Flow
from tts_gen.decoders.flow_matching import FlowMatching
from tts_gen.decoders.regression import Regression

DECODERS = {"regression": Regression, "flow": Flow, "diffusion": Diffusion, "flow_matching": FlowMatching}
