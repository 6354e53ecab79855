"""What is allowed name by name is refused where it does harm together; models still load."""

import functools
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.core.manifest import Manifest
from foretell.errors import BadPackage
from foretell.packing import inspect_file
from foretell.runtimes import load
from foretell.runtimes.estimators import read_estimator
from foretell.runtimes.safety.pickles import load_pickle
from tests import models
from tests.runtimes.test_pickles import Bomb, joblib_bytes


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    model = models.trained(models.classifiers()["tree"](), *models.numbers())
    return models.packed(folder, [models.saved(model, folder / "model.pkl")])


CHAINS = ("thread", "tofile", "direct")


def scoring_chain(kind: str, mark: Path) -> bytes:
    """A metric made of allow-listed names that looks up a method by name while it loads."""
    import pandas as pd
    from sklearn.ensemble import StackingClassifier
    from sklearn.frozen import FrozenEstimator
    from sklearn.metrics._scorer import _Scorer
    from sklearn.neighbors._ball_tree import BallTree

    if kind == "tofile":
        holder, method, argument = np.array([b"x"]), "tofile", str(mark)
    else:
        holder, method = FrozenEstimator(pd.DataFrame({"a": [1.0]})), "eval"
        run = f"os.system('touch {mark}')"
        if kind == "thread":
            run = f"threading.Thread(target=os.system, args=('touch {mark}',)).start()"
        argument = f'@np.testing._private.utils.runstring("import os, threading\\n{run}", {{}})'
    stacked = StackingClassifier(estimators=[])
    stacked.__dict__ |= {"estimators_": [holder], "stack_method_": [method]}
    stacked.__dict__ |= {"classes_": np.array([0, 1]), "final_estimator_": None}
    scorer = object.__new__(_Scorer)
    scorer.__dict__ |= {"_score_func": np.mean, "_sign": 1, "_kwargs": {}}
    scorer.__dict__ |= {"_response_method": "transform"}
    metric = functools.partial(scorer, stacked, argument)
    return pickle.dumps(Bomb(BallTree, np.arange(6.0).reshape(3, 2), 1, metric))


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_of_allowed_names_is_refused_everywhere(
    chain: str, package: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "model.pkl"
    path.write_bytes(scoring_chain(chain, mark))
    with pytest.raises(BadPackage, match=r"model\.pkl"):
        inspect_file(path)
    with pytest.raises(BadPackage, match=r"model\.pkl"):
        models.packed(tmp_path, [path])
    manifest = Manifest.from_text((package / "model.json").read_text())
    with pytest.raises(BadPackage, match=r"model\.pkl"):
        load(manifest, tmp_path)
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore")
def test_the_chain_does_write_unguarded(tmp_path: Path) -> None:
    # else the test above would show nothing; the metric's answer is no number
    with pytest.raises(AttributeError, match="ndim"):
        pickle.loads(scoring_chain("tofile", tmp_path / "ran"))
    assert (tmp_path / "ran").exists()


def holding(kind: str, **state: Any) -> Any:
    """An estimator of scikit-learn with `state`, as a forger sets it."""
    from sklearn.utils import all_estimators

    made = object.__new__(dict(all_estimators())[kind])
    made.__dict__ |= state
    return made


def forged() -> dict[str, tuple[Any, str]]:
    """Objects that only a forger makes, and what is said of them."""
    import pandas as pd
    from sklearn.dummy import DummyClassifier
    from sklearn.metrics import accuracy_score, make_scorer
    from sklearn.metrics._dist_metrics import DistanceMetric
    from sklearn.neighbors import BallTree, KDTree

    scorer, dummy = make_scorer(accuracy_score), DummyClassifier()
    called = functools.partial(accuracy_score, dummy)
    named = functools.partial(accuracy_score, normalize=dummy)
    rows = np.zeros((3, 2))
    return {
        "tree": (Bomb(KDTree, rows, 1, "euclidean"), "KDTree"),
        "metric": (Bomb(DistanceMetric, np.mean), "DistanceMetric"),
        "function metric": (BallTree(rows, metric=accuracy_score), "newObj"),
        "class with arguments": (Bomb(DummyClassifier, "prior"), "DummyClassifier"),
        "ufunc": (Bomb(np.exp, 1.0), r"numpy\.exp"),
        "function": (Bomb(accuracy_score, [1], [1]), "accuracy_score"),
        "text of an object": (Bomb(str, dummy), r"builtins\.str"),
        "partial over a scorer": (functools.partial(scorer, 1), "partial"),
        "partial with an object": (called, "arguments"),
        "partial with a named object": (named, "arguments"),
        "table": (pd.DataFrame({"a": [1.0]}), "pandas"),
        "array as estimator": (holding("VotingClassifier", estimators_=[rows]), "no estimator"),
        "array in a column": (
            holding("ColumnTransformer", transformers_=[("a", rows, [0])]), "no estimator"
        ),
        "function as estimator": (holding("Pipeline", steps=[("a", np.exp)]), r"numpy\.exp"),
        "function in a dictionary": (
            holding("Pipeline", steps=[("a", OrderedDict(a=np.exp))]), r"numpy\.exp"
        ),
        "class as function": (holding("FunctionTransformer", func=KDTree), "KDTree"),
        "object as function": (holding("FunctionTransformer", func=dummy), "to call"),
        "object as argument": (holding("FunctionTransformer", kw_args={"a": dummy}), "to call"),
        "scorer as metric": (holding("KNeighborsClassifier", metric=scorer), "a scorer"),
        "scorer as kernel": (holding("GaussianProcessRegressor", kernel_=scorer), "a scorer"),
        "method": (holding("StackingClassifier", stack_method_=["tofile"]), "tofile"),
        "methods in an array": (
            holding("StackingClassifier", stack_method_=np.array(["tofile"], dtype=object)),
            "an object",
        ),
        "methods as bytes": (
            holding("StackingClassifier", stack_method_=np.array(["tofile"])), "an object"
        ),
        "attribute": (holding("SelectFromModel", importance_getter="a.__class__"), "__class__"),
        "replaced method": (holding("DummyClassifier", predict=np.exp), r"numpy\.exp"),
        "replaced state": (holding("DummyClassifier", __setstate__=1), "replaces"),
        "files": (holding("TfidfVectorizer", input="filename"), "server's files"),
        "open files": (holding("CountVectorizer", input="file"), "server's files"),
        "hashed files": (holding("HashingVectorizer", input="filename"), "server's files"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", list(forged()))
def test_what_only_a_forger_makes_is_refused_before_it_is_loaded(what: str, tmp_path: Path) -> None:
    payload, said = forged()[what]
    path = tmp_path / "model.pkl"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({"a": [payload]}, protocol=protocol))
        with pytest.raises(BadPackage, match=said):
            load_pickle(path)
    path.write_bytes(joblib_bytes({"a": [payload]}))
    with pytest.raises(BadPackage, match=said):
        load_pickle(path)


@pytest.mark.parametrize("trust", [False, True])
def test_no_trust_makes_a_vectorizer_read_files(trust: bool, tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = []
    for word in ("good", "bad"):
        texts.append(tmp_path / f"{word}.txt")
        texts[-1].write_text(word)
    model = make_pipeline(CountVectorizer(input="filename"), LogisticRegression())
    path = models.saved(model.fit(texts, [0, 1]), tmp_path / "model.pkl")
    with pytest.raises(BadPackage, match="every client could read the server's files"):
        read_estimator(path, trusted=trust)


def test_a_skops_file_is_held_to_the_same_slots(tmp_path: Path) -> None:
    import skops.io
    from sklearn.ensemble import StackingClassifier

    model = StackingClassifier(estimators=[])
    model.stack_method_ = ["tofile"]
    skops.io.dump(model, tmp_path / "model.skops")
    with pytest.raises(BadPackage, match="tofile"):
        read_estimator(tmp_path / "model.skops", trusted=False)


def test_a_pickled_booster_says_how_to_save_it(tmp_path: Path) -> None:
    import xgboost

    frame, y = models.numbers()
    booster = xgboost.XGBClassifier(n_estimators=1).fit(frame, y).get_booster()
    with pytest.raises(BadPackage, match=r"save_model\('model\.json'\)"):
        read_estimator(models.saved(booster, tmp_path / "model.pkl"), trusted=False)


@pytest.mark.parametrize(
    "what",
    ["write", "remove", "rename", "thread", "compile", "exec", "library", "fork"],
)
def test_the_second_guard_stops_what_code_does(what: str, tmp_path: Path) -> None:
    import ctypes
    import threading

    from foretell.runtimes.safety import pickles

    here = tmp_path / "here"
    here.touch()

    def program_in_a_thread() -> None:
        said: list[BadPackage] = []

        def run() -> None:
            try:
                os.system(f"touch {tmp_path / 'ran'}")
            except BadPackage as error:
                said.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        raise said[0]

    doing: dict[str, Callable[[], object]] = {
        "write": lambda: (tmp_path / "new").write_text("x"),
        "remove": here.unlink,
        "rename": lambda: here.rename(tmp_path / "there"),
        "thread": program_in_a_thread,
        "compile": lambda: compile("1", "x", "eval"),
        "exec": lambda: exec(compile_before),
        "library": lambda: ctypes.CDLL(None),
        "fork": os.fork,
    }
    compile_before = compile("1", "x", "exec")
    with (
        pytest.raises(BadPackage, match=r"model\.pkl wants to"),
        pickles._watching(tmp_path / "model.pkl"),
    ):
        doing[what]()
    assert [part.name for part in tmp_path.iterdir()] == ["here"]


def composed() -> list[Any]:
    """Estimators that hold others, trees, kernels, scorers, functions."""
    from sklearn import (
        compose,
        ensemble,
        feature_selection,
        linear_model,
        model_selection,
        neighbors,
        pipeline,
        preprocessing,
        tree,
    )
    from sklearn import gaussian_process as gaussian
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.svm import SVC

    kernels = gaussian.kernels
    logistic = linear_model.LogisticRegression(max_iter=500)
    stump = tree.DecisionTreeClassifier(max_depth=2)
    two = [("a", logistic), ("b", stump)]
    columns = compose.ColumnTransformer([("a", preprocessing.StandardScaler(), [0, 1])])
    return [
        ensemble.StackingClassifier(two, cv=2),
        ensemble.StackingClassifier(two, logistic, cv=2, passthrough=True),
        ensemble.VotingClassifier(two, voting="soft"),
        *(CalibratedClassifierCV(stump, method=m, cv=2) for m in ("sigmoid", "isotonic")),
        *(model_selection.GridSearchCV(stump, {"max_depth": [1, 2]}, cv=2, scoring=scoring)
          for scoring in (None, "f1_macro")),
        linear_model.RidgeCV(scoring="r2"),
        linear_model.LogisticRegressionCV(scoring="accuracy", cv=2, max_iter=500),
        *(neighbors.KNeighborsClassifier(algorithm=a) for a in ("ball_tree", "kd_tree")),
        neighbors.KNeighborsClassifier(weights=np.exp),
        gaussian.GaussianProcessRegressor(kernels.ConstantKernel() * kernels.RBF()),
        gaussian.GaussianProcessClassifier(1.0 * kernels.RBF()),
        linear_model.RANSACRegressor(min_samples=10),
        compose.TransformedTargetRegressor(func=np.log1p, inverse_func=np.expm1),
        pipeline.make_pipeline(columns, logistic),
        pipeline.make_pipeline(preprocessing.FunctionTransformer(np.log1p), stump),
        pipeline.make_pipeline(feature_selection.SelectFromModel(stump), stump),
        pipeline.make_pipeline(
            feature_selection.SelectKBest(functools.partial(
                feature_selection.mutual_info_classif, random_state=0)), stump),
        SVC(kernel=rbf_kernel),
        ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(composed())))
def test_what_holds_others_is_still_loaded(place: int, tmp_path: Path) -> None:
    frame, y = models.numbers()
    x = frame.to_numpy().round()
    model = models.trained(composed()[place], x, y)
    for protocol in (0, 4):
        path = models.saved(model, tmp_path / "model.pkl", protocol)
        loaded = read_estimator(path, trusted=False)
        models.assert_same(loaded.predict(x), model.predict(x))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_wrappers_are_still_loaded(library: str, tmp_path: Path) -> None:
    import importlib

    module = importlib.import_module(library)
    kind = getattr(module, "XGBClassifier" if library == "xgboost" else "LGBMClassifier")
    frame, y = models.numbers()
    model = models.trained(kind(n_estimators=2), frame, y)
    path = models.saved(model, tmp_path / "model.pkl")
    models.assert_same(read_estimator(path, trusted=False).predict(frame), model.predict(frame))
