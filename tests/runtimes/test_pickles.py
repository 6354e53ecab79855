"""A pickle that would run something is refused, named, and has run nothing."""

import builtins
import copyreg
import functools
import io
import os
import pickle
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from foretell.core.manifest import Manifest
from foretell.errors import BadPackage
from foretell.packing import inspect_file, pack
from foretell.runtimes import load
from foretell.runtimes.safety.pickles import inspect_pickle, load_pickle
from tests import models


class Bomb:
    """Whatever a pickle may ask for: called with its arguments when it is loaded."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def touching(tmp_path: Path) -> tuple[str, Path]:
    """A shell command that leaves a file behind, and that file."""
    mark = tmp_path / "ran"
    return f"touch {mark}", mark


def joblib_bytes(payload: Any, compress: int = 0) -> bytes:
    stream = io.BytesIO()
    joblib.dump(payload, stream, compress=compress)
    return stream.getvalue()


def in_object_array(bomb: Any) -> bytes:
    boxed = np.empty(1, dtype=object)
    boxed[0] = bomb
    return joblib_bytes({"coef_": boxed})


def global_of(module: str, name: str, protocol: int = 4) -> bytes:
    """The opcodes that look up a global."""
    if protocol < 4:
        return f"c{module}\n{name}\n".encode()
    return (
        b"".join(
            pickle.SHORT_BINUNICODE + struct.pack("<B", len(part)) + part.encode()
            for part in (module, name)
        )
        + pickle.STACK_GLOBAL
    )


def calling(module: str, name: str, argument: str) -> bytes:
    """A hand-made pickle that calls a global with one text."""
    text = argument.encode()
    return (
        b"\x80\x04"
        + global_of(module, name)
        + pickle.BINUNICODE
        + struct.pack("<I", len(text))
        + text
        + pickle.TUPLE1
        + pickle.REDUCE
        + b"."
    )


ATTACKS: dict[str, Callable[[str], bytes]] = {
    **{
        f"protocol {protocol}": functools.partial(
            lambda command, protocol: pickle.dumps(Bomb(os.system, command), protocol=protocol),
            protocol=protocol,
        )
        for protocol in range(6)
    },
    "joblib": lambda command: joblib_bytes({"a": np.arange(5.0), "b": Bomb(os.system, command)}),
    "compressed": lambda command: joblib_bytes([Bomb(os.system, command)], compress=3),
    "object array": lambda command: in_object_array(Bomb(os.system, command)),
    "plain object array": lambda command: pickle.dumps(
        np.array([Bomb(os.system, command)], dtype=object)
    ),
    "partial": lambda command: pickle.dumps(functools.partial(os.system, command)),
    "subprocess": lambda command: pickle.dumps(Bomb(subprocess.getoutput, command)),
    "eval": lambda command: pickle.dumps(
        Bomb(builtins.eval, f"__import__('os').system({command!r})")
    ),
    "exec": lambda command: pickle.dumps(Bomb(builtins.exec, f"import os; os.system({command!r})")),
    "getattr": lambda command: pickle.dumps(Bomb(builtins.getattr, "text", "upper")),
    "traversal": lambda command: calling("sklearn.base", "warnings.sys.modules", command),
    "module": lambda command: calling("sklearn.base", "warnings", command),
    "numpy runstring": lambda command: calling(
        "numpy.testing._private.utils", "runstring", f"import os; os.system({command!r})"
    ),
    "numpy load": lambda command: calling("numpy", "load", command),
    "joblib load": lambda command: calling("joblib", "load", command),
    "pandas": lambda command: calling("pandas", "read_pickle", command),
    "pandas eval": lambda command: calling("pandas", "eval", command),
    "clone by name": lambda command: calling("sklearn.utils", "_testing.os.system", command),
    "ufunc reconstruct": lambda command: calling("numpy.core", "_ufunc_reconstruct", command),
    "distribution": lambda command: calling("scipy.stats._continuous_distns", "norm_gen", command),
    "import": lambda command: calling("builtins", "__import__", "antigravity"),
    "open": lambda command: calling("builtins", "open", command),
    "old joblib array": lambda command: calling("joblib.numpy_pickle", "NDArrayWrapper", command),
    "python 2 spelling": lambda command: b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
    "hidden behind the end": lambda command: pickle.dumps([1])
    + pickle.dumps(Bomb(os.system, command)),
    "extension": lambda command: b"\x80\x04\x82\x01.",
    "persistent": lambda command: b"\x80\x04X\x01\x00\x00\x001Q.",
    "calls what it built": lambda command: b"\x80\x04"
    + global_of("functools", "partial") + global_of("builtins", "list")
    + pickle.TUPLE1 + pickle.REDUCE + pickle.EMPTY_TUPLE + pickle.REDUCE + b".",
    "patches a class": lambda command: b"\x80\x04"
    + global_of("sklearn.dummy", "DummyClassifier") + pickle.NONE + pickle.EMPTY_DICT
    + pickle.SHORT_BINUNICODE + b"\x07predict" + global_of("builtins", "list") + pickle.SETITEM
    + pickle.TUPLE2 + pickle.BUILD + b".",
    "array over a buffer by a maker": lambda command: b"\x80\x04"
    + global_of("copyreg", "__newobj__") + global_of("numpy", "ndarray")
    + pickle.TUPLE1 + pickle.REDUCE + b".",
    "array as a function": lambda command: pickle.dumps(
        FunctionTransformer(np.ndarray, kw_args={"dtype": object, "buffer": b"12345678"})
    ),
    "maker in a partial": lambda command: pickle.dumps(
        [{"steps": FunctionTransformer(functools.partial(vars(copyreg)["__newobj__"], np.float64))}]
    ),
    "maker in an object array": lambda command: in_object_array([{1: bytearray}]),
    "array over a buffer": lambda command: b"\x80\x04"
    + global_of("numpy", "ndarray") + pickle.EMPTY_TUPLE + pickle.REDUCE + b".",
}  # fmt: skip


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_an_attack_is_refused_at_pack_and_does_not_run(attack: str, tmp_path: Path) -> None:
    command, mark = touching(tmp_path)
    path = tmp_path / "model.pkl"
    path.write_bytes(ATTACKS[attack](command))
    with pytest.raises(BadPackage, match=r"model\.pkl"):
        models.packed(tmp_path, [path])
    assert not mark.exists()
    assert not list((tmp_path / "repository").iterdir())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    frame, y = models.numbers()
    model = models.trained(models.classifiers()["tree"](), frame, y)
    return pack([models.saved(model, folder / "model.pkl")], repository=folder / "r", compile=False)


@pytest.mark.parametrize("attack", ["protocol 4", "joblib", "object array", "compressed"])
def test_an_attack_is_refused_at_load_and_does_not_run(
    attack: str, package: Path, tmp_path: Path
) -> None:
    command, mark = touching(tmp_path)
    manifest = Manifest.from_text((package / "model.json").read_text())
    (tmp_path / "model.pkl").write_bytes(ATTACKS[attack](command))
    with pytest.raises(BadPackage, match=r"wants posix\.system, which no model needs"):
        load(manifest, tmp_path)
    assert not mark.exists()


def test_the_bombs_do_go_off_unguarded(tmp_path: Path) -> None:
    # else the tests above would show nothing
    command, mark = touching(tmp_path)
    for attack in ("protocol 0", "joblib", "compressed", "object array", "hidden behind the end"):
        joblib.load(io.BytesIO(ATTACKS[attack](command)))
        assert mark.exists() == (attack != "hidden behind the end"), attack
        mark.unlink(missing_ok=True)


def test_the_second_guard_stops_what_the_inspector_lets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foretell.runtimes.safety import pickles

    command, mark = touching(tmp_path)
    path = tmp_path / "model.pkl"
    monkeypatch.setattr(pickles, "find_globals", lambda raw: ([], None))
    for attack in ("protocol 0", "protocol 4", "joblib", "object array"):
        path.write_bytes(ATTACKS[attack](command))
        with pytest.raises(BadPackage, match=r"posix\.system"):
            load_pickle(path)
        assert not mark.exists()


def test_the_second_guard_watches_only_while_it_loads(tmp_path: Path) -> None:
    path = models.saved([1.5], tmp_path / "model.pkl")
    assert load_pickle(path) == [1.5]
    command, mark = touching(tmp_path)
    pickle.loads(pickle.dumps(Bomb(os.system, command)))
    assert mark.exists()


def test_trust_loads_anything_and_is_recorded(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    frame, y = models.numbers()
    model = make_pipeline(
        FunctionTransformer(np.cumsum, kw_args={"axis": 1}), DecisionTreeClassifier()
    )
    path = models.saved(model.fit(frame.to_numpy(), y), tmp_path / "model.pkl")
    with pytest.raises(BadPackage, match=r"wants numpy\.cumsum.*--trust"):
        models.packed(tmp_path, [path])
    folder = pack([path], repository=tmp_path / "r", trust=True)
    assert models.manifest_of(folder).trusted
    table = frame.set_axis(["x0", "x1", "x2", "x3"], axis=1)
    answers = models.answered(models.opened(folder), table)
    models.assert_same(answers["prediction"], model.predict(frame.to_numpy()))


def test_a_class_of_the_training_script_gets_its_own_advice(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(calling("__main__", "Scaler", ""))
    with pytest.raises(BadPackage, match="wants Scaler from the script or notebook"):
        load_pickle(path)


def test_skops_files_are_held_to_the_same_list(tmp_path: Path) -> None:
    import skops.io

    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(os.getcwd), path)
    with pytest.raises(BadPackage, match=r"model\.skops wants posix\.getcwd"):
        models.packed(tmp_path, [path])
    assert inspect_file(path).refused == ("posix.getcwd",)


def short(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + struct.pack("<B", len(text)) + text.encode()


def wrapper(dtype: bytes, shape: bytes, after: bytes) -> bytes:
    """A hand-made joblib file: one array whose description and bytes do not have to agree."""
    return (
        b"\x80\x04" + global_of("joblib.numpy_pickle", "NumpyArrayWrapper")
        + pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.EMPTY_DICT + pickle.MARK
        + short("subclass") + global_of("numpy", "ndarray")
        + short("shape") + shape + short("order") + short("C")
        + short("dtype") + global_of("numpy", "dtype") + dtype + pickle.TUPLE1 + pickle.REDUCE
        + short("allow_mmap") + pickle.NEWFALSE
        + pickle.SETITEMS + pickle.BUILD + after + b"."
    )  # fmt: skip


def size(number: int) -> bytes:
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number) + pickle.TUPLE1


def test_arrays_in_joblib_files_are_passed_over_exactly(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(wrapper(short("f8"), size(2), struct.pack("<dd", 1.5, 2.5)))
    assert load_pickle(path).tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (wrapper(short("f8"), size(1 << 40), b"\0" * 16), "ends in the middle of an array"),
        (wrapper(short("f8"), size(-1), b"\0" * 16), "unknown shape"),
        (wrapper(short("f8,O"), size(1), b"\0" * 16), "strange way"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "more bytes than it has"),
        (b"\x80\x04" + global_of("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R.", "strange"),
        (
            b"\x80\x04" + global_of("builtins", "list") + global_of("builtins", "range")
            + b"J\xff\xff\xff\x7f\x85R\x85R.",
            "spreads out a range",
        ),
    ],
)  # fmt: skip
def test_sizes_beyond_the_file_are_refused(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(raw)
    with pytest.raises(BadPackage, match=said):
        inspect_pickle(path)


def test_a_dtype_that_lies_about_what_it_holds_is_refused(tmp_path: Path) -> None:
    honest = pickle.dumps(np.array([None], dtype=object), protocol=4)
    assert pickle.loads(honest).tolist() == [None]
    lying = honest.replace(b"K?t", b"K\0t")  # the flags that say: these are pointers
    assert lying != honest
    path = tmp_path / "model.pkl"
    path.write_bytes(lying)
    with pytest.raises(BadPackage, match="not what it is called"):
        inspect_pickle(path)


def test_an_object_array_longer_than_its_list_is_refused(tmp_path: Path) -> None:
    honest = pickle.dumps(np.array([None, None], dtype=object), protocol=4)
    lying = honest.replace(b"K\x02\x85", b"K\x09\x85")
    assert lying != honest
    path = tmp_path / "model.pkl"
    path.write_bytes(lying)
    with pytest.raises(BadPackage, match="another size than its values"):
        inspect_pickle(path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b"hello, this is not a model", "not a readable pickle"),
        (bytes(range(256)), "not a readable pickle"),
        (pickle.dumps(list(range(100)))[:-20], "not a readable pickle"),
        (joblib_bytes(np.arange(100.0))[:-30], "ends in the middle of an array"),
        (zlib.compress(b"x" * 1000)[:-8], "damaged compressed file"),
        (b"\x1f\x8b\x08\x00broken", "damaged compressed file"),
        (b"\x04\x22\x4d\x18....", "lz4"),
        (b"ZF0x1", "before 0.10"),
        (zlib.compress(zlib.compress(b"x" * 9)), "compressed twice"),
        (zlib.compress(b"\0" * (300 << 20)), "unpacks to more than 256 MiB"),
    ],
)
def test_damaged_files_are_refused_by_name(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(raw)
    with pytest.raises(BadPackage, match=said) as caught:
        load_pickle(path)
    assert "model.pkl" in caught.value.message


@pytest.mark.slow
def test_no_estimator_of_scikit_learn_is_refused(tmp_path: Path) -> None:
    from sklearn.utils import all_estimators

    frame, y = models.numbers()
    seen = 0
    for name, kind in all_estimators():
        if name.startswith("PassiveAggressive"):
            continue  # deprecated in scikit-learn 1.8
        try:
            model = models.trained(kind(), frame.to_numpy()[::3], y[::3])
        except (AttributeError, TypeError, ValueError):
            continue  # needs another estimator, other data or more parameters
        seen += 1
        path = tmp_path / name
        for protocol in (0, 2, 4, 5):
            models.saved(model, path, protocol)
            assert not inspect_pickle(path).refused, name
        joblib.dump(model, path)
        assert type(load_pickle(path)) is kind
    assert seen > 120


def _dumped(protocol: int) -> bytes:
    return pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), protocol=protocol)


def _damaged(protocol: int, at: int, what: bytes) -> bytes:
    real = _dumped(protocol)
    return real[:at] + what + real[at + len(what) :]


@given(
    raw=st.one_of(
        st.binary(max_size=60),
        st.builds(_damaged, st.integers(0, 5), st.integers(0, 800), st.binary(max_size=3)),
        st.builds(lambda end: _dumped(5)[:end], st.integers(0, 400)),
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_bytes_inspection_ends_in_a_report_or_a_bad_package(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pkl")
        path.write_bytes(raw)
        told = "model.pkl"
        try:
            inspect_pickle(path)
        except BadPackage as error:
            told = error.message
        assert "model.pkl" in told  # anything but BadPackage has ended the test by now
