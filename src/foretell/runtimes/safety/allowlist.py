"""The allow-list is what a model's pickle may name: each global is judged alone, by its name.

Rules:

1. What a pickle names, it can call. So classes are allowed by framework, functions one by one,
   and never one that imports, evaluates, opens, or looks attributes up by name.
2. A name with a dot is refused: it walks from an allowed module to anything it can see.
3. A module is imported to look at a name only when it belongs to a listed framework.
4. Python 2's spellings (`__builtin__`, `copy_reg`) mean what Python 3 makes of them.

Left out with a reason: `numpy.ndarray` may be named but neither called nor kept (`inspector`);
`scipy.stats` distributions run source text when they are restored;
`sklearn.datasets`, `sklearn.externals` and the testing modules hold no models.
"""

import importlib
import warnings
from functools import cache
from types import ModuleType

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PYTHON_2_NAMES = {"xrange": "range", "unicode": "str", "long": "int"}

_EXACT: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": "object list dict set frozenset tuple int float complex bool str bytes "
        "bytearray slice range",
        "copyreg": "_reconstructor __newobj__ __newobj_ex__",
        "_codecs": "encode",
        "collections": "OrderedDict defaultdict deque Counter",
        "datetime": "date time datetime timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "functools": "partial",
        "numpy": "ndarray dtype matrix mean median nan_to_num clip squeeze ravel",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "numpy.ma": "MaskedArray",
        "numpy.ma.core": "_mareconstruct MaskedArray",
        "numpy.random": "RandomState Generator",
        "numpy.random.mtrand": "RandomState",
        "numpy.random._generator": "Generator",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        "pandas": "NA",
        "scipy._lib.array_api_compat.numpy._aliases": "asarray",
        "scipy.interpolate._bsplines": "BSpline",
        "scipy.interpolate._interpolate": "interp1d",
        "sklearn.cluster._kmeans": "_kmeans_single_lloyd _kmeans_single_elkan",
        "sklearn.feature_extraction.text": "strip_accents_ascii strip_accents_unicode",
        "sklearn.feature_selection._univariate_selection": "f_classif f_regression chi2 "
        "r_regression",
        "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
        "sklearn.metrics._dist_metrics": "newObj",
        "sklearn.metrics.pairwise": "rbf_kernel linear_kernel polynomial_kernel sigmoid_kernel "
        "laplacian_kernel chi2_kernel cosine_similarity cosine_distances euclidean_distances "
        "manhattan_distances haversine_distances nan_euclidean_distances",
        "sklearn.neighbors._ball_tree": "newObj",
        "sklearn.neighbors._kd_tree": "newObj",
        "sklearn.preprocessing._function_transformer": "_identity",
        "sklearn.utils.validation": "check_array",
        "xgboost.core": "Booster",
        "xgboost.callback": "EarlyStopping LearningRateScheduler EvaluationMonitor "
        "TrainingCheckPoint",
        "lightgbm.basic": "Booster",
        # joblib's stand-in for an array whose bytes follow; no other class of joblib is a model
        "joblib.numpy_pickle": "NumpyArrayWrapper",
    }.items()
}

_CLOSED = (
    "sklearn._build_utils",
    "sklearn.callback",
    "sklearn.conftest",
    "sklearn.datasets",
    "sklearn.experimental",
    "sklearn.externals",
    "sklearn.inspection",
    "sklearn.utils",
)
_OPENED = frozenset({"sklearn.utils._bunch", "sklearn.utils._metadata_requests"})
_SCORES = frozenset(
    f"sklearn.metrics.{part}" for part in ("_classification", "_regression", "_ranking")
)
_SPARSE = frozenset({"_csr", "_csc", "_coo", "_bsr", "_dia", "_lil", "_dok"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The attributes of models by what they may hold, for `objects`.
FUNCTIONS = _words(
    "_asarray _kmeans_single _score_func affinity analyzer eval_metric feature_names_out fun "
    "func inverse_func kernel metric effective_metric_ pooling_func preprocessor score_func "
    "strip_accents tokenizer weights"
)
TYPES = _words("dtype dtype_include dtype_exclude")
PARTIALS = _words("_score_func eval_metric func inverse_func pooling_func score_func")
SCORERS = _words("_curve_scorer _scorer owner scorer scorer_ scorers scoring")
PARAMETERS = _words("kw_args metric_params effective_metric_params_ kernel_params")
COLUMNS = _words("transformers transformers_ _remainder")
ESTIMATORS = _words(
    "_Booster _base_loss _bin_mapper _bisecting_tree _centerer _curve_scorer _encoder _estimator "
    "_label_binarizer _label_encoder _le _loss _optimizer _predictors _preprocessor _scaler "
    "_scorer _tfidf _tree base_estimator base_estimator_ best_estimator_ calibrated_classifiers_ "
    "calibrators classifier classifiers_ closs dummy_leaf_ estimator estimator_ estimators "
    "estimators_ final_estimator final_estimator_ indicator_ init_ initial_imputer_ k1 k2 kernel_ "
    "kernel_pca_ label_binarizer_ le_ link named_estimators_ nbrs_ nn_fit one_hot_encoder_ "
    "pipeline regressor regressor_ remainder root_ scorer_ steps subclusters_ transformer "
    "transformer_ transformer_list tree_"
)
METHOD_KEYS = _words(
    "stack_method stack_method_ _response_method response_method chain_method chain_method_"
)
METHODS = _words(
    "auto predict predict_proba predict_log_proba decision_function transform score_samples"
)


def translated(module: str, name: str) -> tuple[str, str]:
    """`module` and `name` as Python 3 spells them; protocols 0 to 2 use Python 2's spelling."""
    if module == "__builtin__":
        name = _PYTHON_2_NAMES.get(name, name)
    return _PYTHON_2.get(module, module), name


def is_allowed(module: str, name: str) -> bool:
    """Whether a model may name `module`.`name`."""
    module, name = translated(module, name)
    if "." in name:
        return False
    return name in _EXACT.get(module, ()) or _in_framework(module, name)


def is_function(module: str, name: str) -> bool:
    """Whether `module`.`name` is an allowed function that models keep, or a plain type."""
    if module.partition(".")[0] == "sklearn":
        own = name in _EXACT.get(module, ()) and name != "newObj"
        return (own or (module in _SCORES and name[:1].islower())) and is_allowed(module, name)
    plain = module in ("builtins", "numpy", "scipy.special") or module.startswith("scipy._lib")
    return plain and is_allowed(module, name)


@cache
def _in_framework(module: str, name: str) -> bool:
    root = module.partition(".")[0]
    match root:
        case "sklearn":
            return _is_sklearn(module, name)
        case "xgboost" | "lightgbm":
            return module == f"{root}.sklearn" and _is_class_of(module, name, root)
        case "numpy":
            return module == "numpy" and _is_numpy(name)
        case "scipy":
            if module == "scipy.special":
                return type(_look_up(module, name)).__name__ == "ufunc"
            package, _, last = module.rpartition(".")
            sparse = package == "scipy.sparse" and last in _SPARSE
            return sparse and _is_class_of(module, name, "scipy.sparse")
    return False


def _is_sklearn(module: str, name: str) -> bool:
    if module not in _OPENED:
        inside = f"{module}."
        if any(inside.startswith(f"{closed}.") for closed in _CLOSED) or ".tests." in inside:
            return False
    if _is_class_of(module, name, "sklearn"):
        return True
    if name.startswith("__pyx_unpickle_"):
        return _look_up(module, name) is not None
    return module in _SCORES and not name.startswith("_") and _is_own_function(module, name)


def _is_own_function(module: str, name: str) -> bool:
    found = _look_up(module, name)
    return type(found).__name__ == "function" and getattr(found, "__module__", None) == module


def _is_numpy(name: str) -> bool:
    import numpy as np

    found = vars(np).get(name)
    return isinstance(found, np.ufunc) or (
        isinstance(found, type) and issubclass(found, np.generic)
    )


def _is_class_of(module: str, name: str, package: str) -> bool:
    found = _look_up(module, name)
    own = isinstance(found, type) and found.__module__ == module
    return own and f"{module}.".startswith(f"{package}.")


def _look_up(module: str, name: str) -> object | None:
    """What an allowed framework's module calls `name`, or None when there is no such thing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: ModuleType = importlib.import_module(module)
    except (ImportError, ValueError):
        return None
    return vars(found).get(name)
