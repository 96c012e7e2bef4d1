"""The reader of PyTorch files: both formats, all types, and files that lie or attack (pickles written by hand)."""

import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tts_gen import torch_file
from tts_gen.config import UserError

GOLDEN = Path(__file__).parent / "golden" / "hifigan"


def literal(value) -> bytes:
    """Pickle instructions that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(n_elements: int, offset=0, shape=(2, 3), strides=(3, 1), kind="FloatStorage", key="0") -> bytes:
    location = literal(key) + literal("cpu") + literal(n_elements)
    storage = b"(" + literal("storage") + f"ctorch\n{kind}\n".encode() + location + b"tQ"
    arguments = literal(offset) + literal(shape) + literal(strides) + literal(False) + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + arguments + b"tR"


def state(value: bytes) -> bytes:
    """A whole pickle: {"weight": value}."""
    return b"\x80\x02}" + literal("weight") + value + b"s."


def call(name: str, *arguments: bytes) -> bytes:
    """Looks up a dotted name and calls what it finds."""
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def write_zip(path: Path, content: bytes, storages: dict[str, bytes], byteorder: bytes = b"little") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", content)
        archive.writestr("model/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"model/data/{key}", data)
    return path


def write_legacy(path: Path, content: bytes, storages: dict[str, tuple[int, bytes]]) -> Path:
    header = [torch_file.LEGACY_MAGIC, torch_file.LEGACY_PROTOCOL, {"little_endian": True}]
    body = b"".join(struct.pack("<q", n) + data for n, data in storages.values())
    path.write_bytes(b"".join(pickle.dumps(h, 2) for h in header) + content + pickle.dumps(list(storages), 2) + body)
    return path


def test_both_formats_hold_the_same_weights():
    new = torch_file.read(GOLDEN / "g_00000001")["generator"]
    old = torch_file.read(GOLDEN / "g_00000001_legacy")["generator"]
    assert list(new) == list(old)
    assert sum(value.size for value in new.values()) == 49610
    for name in new:
        assert new[name].dtype == np.float32
        np.testing.assert_array_equal(new[name], old[name])


@pytest.mark.parametrize("kind, dtype", torch_file.STORAGES.items())
@pytest.mark.parametrize("legacy", [False, True])
def test_every_type(tmp_path, kind, dtype, legacy):
    values = np.array([0, 1, 0, 1, 1, 0], dtype) if kind == "BoolStorage" else np.array([0, 1, 2, 3, 5, 100], dtype)
    content = state(tensor(6, kind=kind))
    if legacy:
        path = write_legacy(tmp_path / "x.pth", content, {"0": (6, values.tobytes())})
    else:
        path = write_zip(tmp_path / "x.pth", content, {"0": values.tobytes()})
    found = torch_file.read(path)["weight"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values.reshape(2, 3))


def test_bfloat16_is_decoded(tmp_path):
    content = state(tensor(1, 0, (1,), (1,), "BFloat16Storage"))
    path = write_zip(tmp_path / "x.pth", content, {"0": b"\x49\x40"})
    found = torch_file.read(path)["weight"]
    assert found.dtype == ml_dtypes.bfloat16 and float(found[0]) == 3.140625


def test_views_share_offset_and_transposition(tmp_path):
    values = np.arange(10, dtype="<f4")
    content = state(tensor(10, offset=4, shape=(3, 2), strides=(1, 3)))
    path = write_zip(tmp_path / "x.pth", content, {"0": values.tobytes()})
    np.testing.assert_array_equal(torch_file.read(path)["weight"], values[4:].reshape(2, 3).T)


def test_scalars_and_empty_tensors(tmp_path):
    scalar = write_zip(tmp_path / "a.pth", state(tensor(1, 0, (), ())), {"0": np.float32(7).tobytes()})
    assert torch_file.read(scalar)["weight"] == 7
    empty = write_zip(tmp_path / "b.pth", state(tensor(0, 0, (0, 3), (3, 1))), {"0": b""})
    assert torch_file.read(empty)["weight"].shape == (0, 3)


@pytest.mark.parametrize(
    "view",
    [
        dict(offset=1),
        dict(offset=6, shape=(1,), strides=(1,)),
        dict(strides=(4, 1)),
        dict(offset=-1),
        dict(offset=5, strides=(-3, -1)),
        dict(shape=(2, -3)),
        dict(shape=(10**12,), strides=(0,)),  # within the storage, but 4 TB when copied
        dict(shape=(2**62, 2**62), strides=(1, 1)),
        dict(shape=(2, 3), strides=(1,)),
        dict(offset=1.0),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_no_view_reaches_outside_its_storage(tmp_path, view, legacy):
    content, data = state(tensor(6, **view)), bytes(24)
    if legacy:
        path = write_legacy(tmp_path / "x.pth", content, {"0": (6, data)})
    else:
        path = write_zip(tmp_path / "x.pth", content, {"0": data})
    with pytest.raises(UserError, match="outside its storage|whole numbers"):
        torch_file.read(path)


def test_a_view_is_not_a_storage(tmp_path):
    # Six times the last element: a second view over the first would run on beyond the storage.
    last = tensor(6, offset=5, shape=(6,), strides=(0,))
    beyond = literal(0) + literal((6,)) + literal((1,)) + literal(False) + b"ccollections\nOrderedDict\n)R"
    content = state(b"ctorch._utils\n_rebuild_tensor_v2\n(" + last + beyond + b"tR")
    with pytest.raises(UserError, match="not a plain one"):
        torch_file.read(write_zip(tmp_path / "x.pth", content, {"0": bytes(24)}))


FORBIDDEN = [
    "os.system", "posix.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "builtins.__import__",
    "builtins.getattr", "__builtin__.eval", "torch.load", "torch.optim", "functools.reduce", "numpy.load",
    "numpy._core.multiarray._reconstruct", "collections.namedtuple", "omegaconfig.x", "operator.attrgetter",
]  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("legacy", [False, True])
def test_code_never_runs(tmp_path, name, legacy):
    marker = tmp_path / "ran"
    attack = state(call(name, literal(f"touch {marker}")))
    path = write_legacy(tmp_path / "x.pth", attack, {}) if legacy else write_zip(tmp_path / "x.pth", attack, {})
    with pytest.raises(UserError, match=rf"x\.pth: asks for {re.escape(name)}"):
        torch_file.read(path)
    assert not marker.exists()


def test_what_settings_and_optimisers_leave_is_inert(tmp_path):
    # As Lightning and Hydra write it: a settings node with a state, a partial of a class, a dictionary with a factory.
    node = b"comegaconf.dictconfig\nDictConfig\n)\x81" + literal({"width": 3}) + b"b"
    partial = call("functools.partial", b"ctorch.optim.adam\nAdam\n") + literal((1, (), {}, None)) + b"b"
    factory = call("collections.defaultdict", b"c__builtin__\ndict\n") + literal("a") + literal(1) + b"s"
    listed = call("omegaconf.listconfig.ListConfig") + literal(4) + b"a"
    content = b"\x80\x02}(" + b"".join(
        literal(name) + value
        for name, value in {
            "node": node, "partial": partial, "factory": factory, "list": listed, "any": b"ctyping\nAny\n",
            "weight": tensor(6),
        }.items()
    ) + b"u."  # fmt: skip
    found = torch_file.read(write_zip(tmp_path / "x.ckpt", content, {"0": np.arange(6, dtype="<f4").tobytes()}))
    np.testing.assert_array_equal(found["weight"], [[0, 1, 2], [3, 4, 5]])
    assert repr(found["node"]) == "<omegaconf.dictconfig.DictConfig, not loaded>"
    assert all(isinstance(found[name], torch_file.Inert) for name in ("node", "partial", "factory", "list"))
    assert issubclass(found["any"], torch_file.Inert)


def test_an_inert_object_calls_nothing(tmp_path):
    attack = call("functools.partial", b"cos\nsystem\n", literal(f"touch {tmp_path / 'ran'}"))
    with pytest.raises(UserError, match=r"asks for os\.system"):
        torch_file.read(write_zip(tmp_path / "x.pth", state(attack + b")R"), {}))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", [literal({"append": 1}), literal((None, {"__setitem__": 1, "__slots__": 2}))])
def test_a_file_cannot_change_what_is_inert(tmp_path, change):
    with pytest.raises(UserError, match="damaged"):
        torch_file.read(write_zip(tmp_path / "x.pth", state(b"comegaconf.base\nMetadata\n" + change + b"b"), {}))


def test_an_inert_object_is_no_storage(tmp_path):
    content = state(tensor(6).replace(b"ctorch\nFloatStorage\n", b"ctyping\nAny\n"))
    with pytest.raises(UserError):
        torch_file.read(write_zip(tmp_path / "x.pth", content, {"0": bytes(24)}))


def numpy_scalar(kind: str, data: bytes, order: str = "<") -> bytes:
    type_ = call("numpy.dtype", literal(kind), literal(False), literal(True))
    state = literal((3, order, None, None, None, -1, -1, 0))
    encoded = call("_codecs.encode", literal(data.decode("latin1")), literal("latin1"))
    return call("numpy.core.multiarray.scalar", type_ + state + b"b", encoded)


@pytest.mark.parametrize("value, order", [(np.float64(-1e-4), "<"), (np.float32(2.5), ">"), (np.int64(-7), "<")])
def test_numpy_scalars(tmp_path, value, order):
    data = np.array(value, value.dtype.newbyteorder(order)).tobytes()
    content = state(numpy_scalar(value.dtype.str[1:], data, order))
    found = torch_file.read(write_zip(tmp_path / "x.pth", content, {}))["weight"]
    assert found == value and found.dtype.newbyteorder("=") == value.dtype


@pytest.mark.parametrize(
    "scalar",
    [
        numpy_scalar("O8", bytes(8)),
        numpy_scalar("V8", bytes(8)),
        numpy_scalar("f8", bytes(16)),
        numpy_scalar("f8", bytes(4)),
        numpy_scalar("f8", bytes(8), "(2,)"),
        call("numpy.dtype", literal([("a", "O")])),
        call("_codecs.encode", literal("a"), literal("rot13")),
        call("numpy.core.multiarray.scalar", literal("f8"), literal("a")),
    ],
)
def test_numpy_scalars_that_are_no_plain_number(tmp_path, scalar):
    with pytest.raises(UserError, match=r"x\.pth"):
        torch_file.read(write_zip(tmp_path / "x.pth", state(scalar), {}))


def test_code_in_the_header_never_runs(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "x.pth").write_bytes(pickle.dumps(Attack(), 2))
    with pytest.raises(UserError, match="system"):
        torch_file.read(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["_rebuild_tensor_v2", "_rebuild_parameter"])
def test_a_file_cannot_change_the_reader(tmp_path, name):
    # BUILD with a pair of dictionaries sets attributes on whatever is on the stack.
    attack = f"ctorch._utils\n{name}\n".encode() + literal((None, {"__call__": 1, "__class__": 2})) + b"b"
    with pytest.raises(UserError, match="damaged"):
        torch_file.read(write_zip(tmp_path / "x.pth", state(attack), {}))
    assert torch_file.read(GOLDEN / "g_00000001")


@pytest.mark.parametrize("name", ["g_00000001", "g_00000001_legacy"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.99])
def test_truncated(tmp_path, name, kept):
    whole = (GOLDEN / name).read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UserError, match=r"cut\.pth.*truncated"):
        torch_file.read(path)


def test_a_storage_shorter_than_its_tensors_say(tmp_path):
    with pytest.raises(UserError, match="storage 0 has 20 bytes"):
        torch_file.read(write_zip(tmp_path / "a.pth", state(tensor(6)), {"0": bytes(20)}))
    with pytest.raises(UserError, match="not as long"):
        torch_file.read(write_legacy(tmp_path / "b.pth", state(tensor(6)), {"0": (5, bytes(24))}))
    with pytest.raises(UserError, match="more bytes than the file"):
        torch_file.read(write_legacy(tmp_path / "c.pth", state(tensor(10**13)), {"0": (10**13, bytes(24))}))


def test_big_endian_is_refused(tmp_path):
    with pytest.raises(UserError, match="big-endian"):
        torch_file.read(write_zip(tmp_path / "x.pth", state(tensor(6)), {"0": bytes(24)}, byteorder=b"big"))


def test_other_files(tmp_path):
    with pytest.raises(UserError, match="no such"):
        torch_file.read(tmp_path / "absent.pth")
    text = tmp_path / "notes.pth"
    text.write_text("these are not weights")
    with pytest.raises(UserError, match=r"notes\.pth: not a PyTorch checkpoint"):
        torch_file.read(text)
    archive = tmp_path / "photos.pth"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("photo.png", b"")
    with pytest.raises(UserError, match="no data.pkl"):
        torch_file.read(archive)
    with pytest.raises(UserError, match="holds a list"):
        torch_file.read(write_zip(tmp_path / "list.pth", pickle.dumps([1, 2], 2), {}))
