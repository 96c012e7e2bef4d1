"""A model that leaves its training machine: a folder with which jax and numpy, or onnxruntime and numpy, can sample it.

sample.jax_export    StableHLO for all platforms by `jax.export`: batch and lengths symbols, seed and temperature inputs
parameters.npy       [P], its first argument
speaker_embeddings.npy     [S, E], where the run was trained with speaker embeddings
model.onnx           in place of both, by jax2onnx: one row, lengths symbols, noise and temperature inputs; a vocoder's
                     length is that of its window
model.json           phonemes, voices, statistics, mel definition: what inputs are made and outputs are read with
load.py              makes a callable of the rest (`tts_gen/export/load.py`); imports nothing of this package
"""
