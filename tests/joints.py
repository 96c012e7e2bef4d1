"""Tiny checkpoints of the reference implementations with random weights, as PyTorch would have saved them."""

from pathlib import Path

import numpy as np
from test_torch_file import literal, tensor, write_zip

from tts_gen.convert import port
from tts_gen.convert.symbols import ARPABET, IPA
from tts_gen.convert.weights import Weights

BINS = 8
ARGS = {
    "glow_tts": dict(
        n_vocab=len(ARPABET) + 1, out_channels=BINS, hidden_channels=8, hidden_channels_enc=8, hidden_channels_dec=12,
        filter_channels=10, filter_channels_dp=6, kernel_size=3, n_heads=2, n_layers_enc=2, window_size=3, prenet=True,
        mean_only=False, block_length=None, p_dropout=0.1, n_blocks_dec=2, kernel_size_dec=5, dilation_rate=1,
        n_block_layers=2, p_dropout_dec=0.05, n_split=4, n_sqz=2, sigmoid_scale=False, n_speakers=0, gin_channels=0,
    ),
    "grad_tts": dict(
        n_vocab=len(ARPABET) + 1, n_spks=3, spk_emb_dim=4, n_enc_channels=8, filter_channels=10, filter_channels_dp=6,
        n_heads=2, n_enc_layers=1, enc_kernel=3, enc_dropout=0.1, window_size=4, n_feats=BINS, dec_dim=8, beta_min=0.05,
        beta_max=20.0, pe_scale=1000,
    ),
    "matcha_tts": dict(
        n_vocab=len(IPA), n_spks=1, spk_emb_dim=64, n_feats=BINS,
        encoder=dict(
            encoder_type="RoPE Encoder",
            encoder_params=dict(n_feats=BINS, n_channels=16, filter_channels=10, filter_channels_dp=6, n_heads=2,
                                n_layers=1, kernel_size=3, p_dropout=0.1, prenet=False),
            duration_predictor_params=dict(filter_channels_dp=6, kernel_size=3, p_dropout=0.1),
        ),
        decoder=dict(channels=[8, 16], dropout=0.05, attention_head_dim=4, n_blocks=1, num_mid_blocks=1, num_heads=2,
                     act_fn="snakebeta"),
        cfm=dict(name="CFM", solver="euler", sigma_min=1e-4), out_size=None, prior_loss=True,
        use_precomputed_durations=False,
    ),
}  # fmt: skip
WRAPPED = {"glow_tts": "model", "grad_tts": None, "matcha_tts": "state_dict"}
"""key of a checkpoint file under which the state dict lies; None: it is the file's content"""


class _Recorder(Weights):
    """Draws each tensor that a port asks for: what it needs, it gets."""

    def __init__(self, seed: int):
        super().__init__({}, "nowhere")
        self.state, self.rng = {}, np.random.default_rng(seed)

    def take(self, name, shape):
        around = 1.0 if name.endswith(("gamma", "weight_g", "mel_std")) else 0.0
        value = around + self.rng.standard_normal(shape) / np.sqrt(4 * max(1, np.prod(shape[1:])))
        self.state[name] = np.asarray(value, np.float32)
        return self.state[name]


def random_state(name: str, seed: int = 0, **changes) -> dict[str, np.ndarray]:
    """A state dict of a port, of the sizes of ARGS."""
    recorder = _Recorder(seed)
    port(name).params(recorder, ARGS[name] | changes)
    return recorder.state


def write_checkpoint(path: Path, state: dict[str, np.ndarray], name: str = "glow_tts") -> Path:
    """The file that PyTorch would have written."""

    def entry(i: int, key: str, value: np.ndarray) -> bytes:
        strides = tuple(s // 4 for s in value.strides) if value.size else value.shape
        return literal(key) + tensor(value.size, 0, value.shape, strides, key=str(i)) + b"s"

    state = {key: np.ascontiguousarray(value).reshape(value.shape) for key, value in state.items()}
    content = b"}" + b"".join(entry(i, *item) for i, item in enumerate(state.items()))
    if WRAPPED[name]:
        content = b"}" + literal(WRAPPED[name]) + content + b"s"
    storages = {str(i): value.tobytes() for i, value in enumerate(state.values())}
    return write_zip(path, b"\x80\x02" + content + b".", storages)
