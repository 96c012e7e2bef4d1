"""PyTorch checkpoint files (.pt, .pth, .ckpt), read without PyTorch and without running any code that they hold.

A checkpoint is a pickle of containers whose tensors refer to raw storages beside it: members of a zip archive since
PyTorch 1.6, appended to the pickle before. Unpickling may call whatever a file names, so the unpickler here looks up
nothing: it knows the names in `_ALLOWED` (containers, tensors, numpy scalars) and the storage types. What training
scripts leave besides (`INERT`: settings, optimisers) becomes an `Inert` that does nothing; a file that asks for
anything else is refused.
Source of the formats: torch/serialization.py of PyTorch 2.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from tts_gen.config import UserError

# Both formats are little-endian in every file that PyTorch writes on a common machine; others are refused.
STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read(path: str | Path) -> dict:
    """The checkpoint's dictionary: containers and values as saved, tensors as numpy arrays (bfloat16 by `ml_dtypes`).

    Settings and optimisers saved as objects are `Inert`. The arrays are read-only views of their storage, as the
    tensors were views: copy before changing one. Raises UserError for a file that is missing, damaged, no checkpoint,
    or asks for more than tensors, containers and what `INERT` lists.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        is_zip = zipfile.is_zipfile(path)
        if not is_zip and _starts_as_zip(path):
            raise UserError("a zip archive without its end: it is truncated; compare its size with the original")
        content = _read_zip(path) if is_zip else _read_legacy(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise UserError(
            f"{path}: not a PyTorch checkpoint, or a damaged or truncated one ({type(error).__name__}: {error}); "
            "compare its size and checksum with the original"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__} where a checkpoint has a dictionary")
    return content


def _starts_as_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read_zip(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("a zip archive, but not a PyTorch checkpoint: it holds no data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise UserError("written on a big-endian machine; save it again on a little-endian one")

        def storage(key: str, dtype: np.dtype, n_elements: int) -> np.ndarray:
            member = archive.getinfo(f"{root}data/{key}")
            if member.file_size != n_elements * dtype.itemsize or member.compress_type != zipfile.ZIP_STORED:
                raise UserError(f"storage {key} has {member.file_size} bytes, not {n_elements} x {dtype.itemsize}")
            return np.frombuffer(archive.read(member), dtype)

        with archive.open(pickles[0]) as file:
            return _Unpickler(file, storage).load()


def _read_legacy(path: Path) -> object:
    with open(path, "rb") as file:

        def no_storage(key: str, dtype: np.dtype, n_elements: int) -> np.ndarray:
            raise UserError("a tensor before the header's end")

        def load_header() -> object:
            return _Unpickler(file, no_storage).load()

        if load_header() != LEGACY_MAGIC or load_header() != LEGACY_PROTOCOL:
            raise UserError("not a PyTorch checkpoint: its first bytes are not one's")
        if load_header().get("little_endian") is not True:
            raise UserError("written on a big-endian machine; save it again on a little-endian one")

        # The storages follow the pickle that refers to them: they are allocated when named and filled afterwards.
        storages: dict[str, np.ndarray] = {}
        unclaimed = path.stat().st_size

        def storage(key: str, dtype: np.dtype, n_elements: int) -> np.ndarray:
            nonlocal unclaimed
            unclaimed -= n_elements * dtype.itemsize
            if unclaimed < 0:
                raise UserError("its tensors need more bytes than the file has; it is truncated")
            storages[key] = np.empty(n_elements, dtype)
            return storages[key]

        content = _Unpickler(file, storage).load()
        keys = load_header()
        if set(keys) != set(storages):
            raise UserError("the storages that it lists are not those that its tensors need")
        for key in keys:
            target = storages[key]
            if int.from_bytes(_read_exactly(file, 8), "little") != target.size:
                raise UserError(f"storage {key} is not as long as its tensors say")
            target.view(np.uint8)[:] = np.frombuffer(_read_exactly(file, target.nbytes), np.uint8)
            target.flags.writeable = False
        return content


def _read_exactly(file: BinaryIO, n_bytes: int) -> bytes:
    data = file.read(n_bytes)
    if len(data) != n_bytes:
        raise UserError("it is truncated: the file ends within a tensor")
    return data


class _Unpickler(pickle.Unpickler):
    """Builds containers and arrays, nothing else. `storage(key, dtype, n_elements)` finds or allocates a flat array."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, np.dtype, int], np.ndarray]):
        super().__init__(file)
        self._find_storage = storage
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and name in STORAGES:
            return name  # a string: nothing that the pickle could call or change
        if INERT.fullmatch(f"{module}.{name}"):
            return type(f"{module}.{name}", (Inert,), {"__slots__": ()})
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"asks for {module}.{name}, which is neither a tensor nor a plain container, and could run code; "
                "save the state_dict alone with PyTorch and read that"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: tuple) -> np.ndarray:
        kind, storage_type, key, _device, n_elements, *view = pid
        if kind != "storage" or any(v is not None for v in view):
            raise UserError(f"holds a {kind} that is not a plain storage")
        if not isinstance(n_elements, int) or n_elements < 0:
            raise UserError(f"storage {key}: {n_elements!r} is no number of elements")
        dtype = STORAGES[storage_type]
        if key not in self._storages:
            self._storages[key] = self._find_storage(key, dtype, n_elements)
        found = self._storages[key]
        if (found.dtype, found.size) != (dtype, n_elements):
            raise UserError(f"storage {key} is described in two ways")
        return found


INERT = re.compile(
    r"omegaconf(\.\w+)+|torch\.optim(\.\w+)+|functools\.partial|typing\.\w+|collections\.defaultdict"
    r"|(__builtin__|builtins)\.(bool|dict|float|int|list|long|set|str|tuple)"
)
"""names that Lightning and Hydra leave in checkpoints beside the tensors: settings, and the optimiser's class"""


class Inert:
    """Stands for an object that is not loaded: takes whatever a pickle gives it and keeps and does nothing.

    Its class's name is the name that the file asked for; nothing of that name is imported.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, not loaded>"


class _Rebuild:
    """A function as an object without attributes, which no pickle instruction can change."""

    __slots__ = ()


class _RebuildTensor(_Rebuild):
    __slots__ = ()

    def __call__(self, storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: object) -> np.ndarray:
        """View of a flat storage; offset and strides count elements. Nothing outside the storage can be reached."""
        tensor = f"tensor of shape {shape}, strides {strides}, offset {offset}"
        if len(shape) != len(strides) or any(type(n) is not int or n < 0 for n in (offset, *shape, *strides)):
            raise UserError(f"{tensor}: these are not whole numbers >= 0, one stride for each length")
        if storage.ndim != 1 or not storage.flags.c_contiguous:  # a view in a storage's place hides where memory ends
            raise UserError(f"{tensor}: its storage is not a plain one")
        n_elements = int(np.prod(shape, dtype=object))
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
        if n_elements and (last >= storage.size or n_elements > storage.size):
            raise UserError(f"{tensor} reaches outside its storage of {storage.size} elements")
        if not n_elements:
            return np.empty(shape, storage.dtype)
        strides_bytes = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides_bytes, writeable=False)


class _RebuildParameter(_Rebuild):
    __slots__ = ()

    def __call__(self, data: np.ndarray, *_: object) -> np.ndarray:
        return data


class _NumpyType:
    """A plain numpy type, whose byte order a pickle tells afterwards."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: str):
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]
        if self._order not in ("<", ">", "|"):
            raise UserError(f"holds a numpy value of byte order {self._order!r}")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self._order + self._name)


class _RebuildNumpyType(_Rebuild):
    __slots__ = ()

    def __call__(self, name: str, *_: object) -> _NumpyType:
        if not re.fullmatch("[biufc][0-9]{1,2}", name):
            raise UserError(f"holds a numpy value of type {name!r}, which is not a plain number")
        return _NumpyType(name)


class _RebuildNumpyScalar(_Rebuild):
    __slots__ = ()

    def __call__(self, kind: _NumpyType, data: bytes) -> np.generic:
        (value,) = np.frombuffer(data, kind.dtype)
        return value


class _Encode(_Rebuild):
    """Bytes as Python 2 could read them: text of the same code points."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise UserError(f"holds bytes in the encoding {encoding!r}; only latin1 is known")
        return text.encode("latin1")


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    ("numpy", "dtype"): _RebuildNumpyType(),
    ("numpy.core.multiarray", "scalar"): _RebuildNumpyScalar(),
    ("numpy._core.multiarray", "scalar"): _RebuildNumpyScalar(),
    ("_codecs", "encode"): _Encode(),
}
