"""The signature is what the model takes: read from it, from a sample, and tried out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.errors import BadPackage, InvalidInput
from foretell.packing import pack
from tests import models


def signature_of(tmp_path: Path, model: Any, frame: pd.DataFrame | None = None) -> Any:
    path = models.saved(model, tmp_path / "model.pkl")
    return models.manifest_of(models.packed(tmp_path, [path], frame)).signature


def test_names_come_from_the_header_when_the_model_has_none(tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = LogisticRegression(max_iter=500).fit(frame.to_numpy(), y)
    assert signature_of(tmp_path, model, frame).input_names == tuple(frame.columns)


def test_columns_the_model_does_not_know_are_left_out(tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = LogisticRegression(max_iter=500).fit(frame, y)
    table = frame.assign(target=y)[["target", *reversed(frame.columns)]]
    assert signature_of(tmp_path, model, table).input_names == tuple(frame.columns)


@pytest.mark.parametrize(
    ("named", "columns", "said"),
    [
        (False, 5, "takes 4 values in a row, but the sample has 5 columns; if 'target' is the"),
        (False, 3, "takes 4 values in a row, but the sample has 3 columns"),
        (True, 3, "trained on a column 'petal_width', which the sample lacks"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(
    named: bool, columns: int, said: str, tmp_path: Path
) -> None:
    frame, y = models.numbers()
    model = LogisticRegression(max_iter=500).fit(frame if named else frame.to_numpy(), y)
    table = frame.assign(target=y).iloc[:, :columns]
    with pytest.raises(BadPackage, match=said):
        signature_of(tmp_path, model, table)


def test_whole_numbers_stay_integers_until_the_model_takes_missing_ones(tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": [1, 2, 3, 4] * 5, "rate": [0.5, 1.5, 2.5, 3.5] * 5})
    y = [0, 0, 1, 1] * 5
    strict = signature_of(tmp_path, LogisticRegression().fit(frame, y), frame)
    assert [field.datatype for field in strict.inputs] == [Datatype.INT64, Datatype.FP64]
    assert not any(field.nullable for field in strict.inputs)
    (tmp_path / "second").mkdir()
    loose = signature_of(
        tmp_path / "second", HistGradientBoostingClassifier(max_iter=2).fit(frame, y), frame
    )
    assert [field.datatype for field in loose.inputs] == [Datatype.FP64, Datatype.FP64]
    assert all(field.nullable for field in loose.inputs)


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.bool_])
def test_datatypes_are_those_of_a_parquet_sample(kind: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.array([0, 1] * 10, dtype=kind), "b": np.arange(20.0)})
    model = models.trained(LogisticRegression(), frame, [0, 1] * 10)
    sample = tmp_path / "sample.parquet"
    frame.to_parquet(sample)
    path = models.saved(model, tmp_path / "model.pkl")
    folder = pack([path], sample=sample, repository=tmp_path / "r", compile=False)
    assert models.manifest_of(folder).signature.inputs[0].datatype is Datatype.of(np.dtype(kind))
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["probability"], model.predict_proba(frame))


def mixed(unknown: str) -> tuple[Any, pd.DataFrame]:
    frame = pd.DataFrame({"plan": ["a", "b", "c"] * 6, "age": np.arange(18.0)})
    encoder = OneHotEncoder(handle_unknown=unknown)
    columns = ColumnTransformer([("plan", encoder, ["plan"])], remainder="passthrough")
    return make_pipeline(columns, LogisticRegression(max_iter=500)).fit(frame, [0, 1] * 9), frame


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("unknown", ["error", "ignore"])
def test_an_encoder_tells_texts_their_categories_and_if_others_are_taken(
    unknown: str, sampled: bool, tmp_path: Path
) -> None:
    model, frame = mixed(unknown)
    plan, age = signature_of(tmp_path, model, frame if sampled else None).inputs
    assert (plan.datatype, age.datatype) == (Datatype.BYTES, Datatype.FP64)
    assert plan.categories == ("a", "b", "c")
    assert plan.closed == (unknown == "error")


def test_numbers_that_an_encoder_knows_are_closed_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"grade": [1, 2, 3] * 6})
    model = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(frame, [0, 1] * 9)
    (grade,) = signature_of(tmp_path, model, frame).inputs
    assert (grade.categories, grade.closed) == ((1, 2, 3), True)
    with pytest.raises(InvalidInput, match="must be one of 1, 2, 3"):
        grade.accept(7)


def test_what_a_model_without_encoders_takes_needs_a_sample_when_it_is_text(
    tmp_path: Path,
) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    frame = pd.DataFrame({"title": ["a b", "c d"] * 3, "age": [1.0, 2.0] * 3})
    columns = ColumnTransformer(
        [("title", CountVectorizer(token_pattern=r"\w"), "title")], remainder="passthrough"
    )
    model = make_pipeline(columns, MultinomialNB()).fit(frame, [0, 1] * 3)
    title, age = signature_of(tmp_path, model).inputs
    assert (title.datatype, age.datatype) == (Datatype.BYTES, Datatype.FP64)


MODELS = {
    "forest": lambda: RandomForestClassifier(3, random_state=0),
    "logistic": lambda: LogisticRegression(max_iter=500),
    "linear": LinearRegression,
    "pipeline": models.classifiers()["pipeline"],
    "bayes": models.classifiers()["bayes"],
    "knn": models.classifiers()["knn"],
    "network": models.classifiers()["network"],
    "histogram": models.classifiers()["histogram"],
}


@pytest.mark.parametrize("kind", list(MODELS))
def test_no_number_within_the_bounds_breaks_the_model(kind: str, tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = models.trained(MODELS[kind](), frame, y)
    path = models.saved(model, tmp_path / "model.pkl")
    servable = models.opened(models.packed(tmp_path, [path], frame))
    inputs = servable.signature.inputs
    random = np.random.default_rng(1)
    low, high = np.array([field.bounds for field in inputs]).T
    assert (low < -1e5).all()
    assert (high > 1e5).all()
    share = random.choice([-1.0, -0.5, 0.0, 1e-3, 0.5, 1.0], size=(200, len(inputs)))
    rows = np.where(share < 0, low, high) * np.abs(share)
    with np.errstate(all="ignore"):
        answers = servable.predict(Batch.from_matrix(inputs, rows))
    for column in answers.columns:
        assert column.dtype.kind != "f" or np.isfinite(column).all()


def test_a_forest_is_bounded_where_float32_ends(tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = RandomForestClassifier(3, random_state=0).fit(frame, y)
    field = signature_of(tmp_path, model, frame).inputs[0]
    assert field.maximum == 3e38
    with pytest.raises(InvalidInput, match="must be between"):
        field.accept(1e39)


def test_the_example_is_a_whole_row_of_the_sample(tmp_path: Path) -> None:
    frame, y = models.churn()
    signature = signature_of(tmp_path, models.churn_pipeline(frame, y), frame)
    whole = frame.dropna().iloc[0]
    assert dict(zip(signature.input_names, signature.example, strict=True)) == whole.to_dict()


def test_dates_and_mixtures_in_a_sample_are_refused(tmp_path: Path) -> None:
    from foretell.packing.sample import field_of

    with pytest.raises(BadPackage, match="mixes float and str"):
        field_of("a", pd.Series(["x", 1.5], dtype=object))
    with pytest.raises(BadPackage, match="give it as the model gets it"):
        field_of("a", pd.Series(pd.to_datetime(["2026-01-01"])))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1, None], dtype="Int64"), Field("a", Datatype.FP64)),
        (pd.Series([1, 2], dtype="Int32"), Field("a", Datatype.INT32)),
        (pd.Series([True, False], dtype="boolean"), Field("a", Datatype.BOOL)),
        (pd.Series([True, None], dtype="object"), Field("a", Datatype.BOOL)),
        (pd.Series(["x", "y", "x"]), Field("a", Datatype.BYTES, categories=("x", "y"))),
        (pd.Series(["x", "y"], dtype="string"), Field("a", Datatype.BYTES)),
        (
            pd.Series([3, 5, None], dtype="category"),
            Field("a", Datatype.FP64, categories=(3.0, 5.0)),
        ),
    ],
)
def test_pandas_dtypes_become_datatypes(column: Any, expected: Field) -> None:
    from foretell.packing.sample import field_of

    assert field_of("a", column) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "unreadable"), ("a,b\n", "no rows"), ('a\n"open', "unreadable")],
)
def test_an_unreadable_sample_is_refused(text: str, said: str, tmp_path: Path) -> None:
    frame, y = models.numbers()
    path = models.saved(LogisticRegression(max_iter=500).fit(frame, y), tmp_path / "model.pkl")
    sample = tmp_path / "sample.csv"
    sample.write_text(text)
    with pytest.raises(BadPackage, match=said):
        pack([path], sample=sample, repository=tmp_path / "r")
    with pytest.raises(BadPackage, match="there is no sample file"):
        pack([path], sample=tmp_path / "absent.csv", repository=tmp_path / "r")


def test_a_model_whose_answer_depends_on_chance_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dice.py").write_text(
        "import numpy as np\n"
        "class Model:\n"
        "    def predict(self, columns):\n"
        "        return np.random.default_rng().random(len(columns['a']))\n"
    )
    sample = models.sampled(pd.DataFrame({"a": [1.0]}), tmp_path / "sample.csv")
    with pytest.raises(BadPackage, match="answers row 0 of the sample with prediction"):
        pack(["dice:Model"], sample=sample, repository=tmp_path / "r", python_path=tmp_path)


@pytest.mark.parametrize(
    ("rows", "suffix", "expected"),
    [
        (1, "csv", Datatype.FP64),
        (19, "csv", Datatype.FP64),
        (20, "csv", Datatype.INT64),
        (200, "csv", Datatype.INT64),
        (1, "parquet", Datatype.INT64),
    ],
)
def test_few_whole_numbers_in_csv_may_be_measures(
    rows: int, suffix: str, expected: Datatype, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"tenure": np.arange(200) % 70})
    path = models.saved(LinearRegression().fit(frame, frame["tenure"]), tmp_path / "model.pkl")
    sample = tmp_path / f"s.{suffix}"
    shown = frame.head(rows)
    shown.to_csv(sample, index=False) if suffix == "csv" else shown.to_parquet(sample)
    folder = pack([path], sample=sample, repository=tmp_path / "r", compile=False)
    (tenure,) = models.manifest_of(folder).signature.inputs
    assert tenure.datatype is expected
    if expected is Datatype.FP64:
        assert tenure.accept(0.1257) == 0.1257


def test_whole_numbers_too_large_for_a_float_stay_whole(tmp_path: Path) -> None:
    from foretell.packing.sample import read_sample

    (tmp_path / "s.csv").write_text(f"id,x\n{2**60 + 1},3\n")
    frame = read_sample(tmp_path / "s.csv")
    assert frame["id"].tolist() == [2**60 + 1]
    assert frame["x"].dtype.kind == "f"


@pytest.mark.parametrize("other", ["5", "5.5", ""])
def test_a_number_beyond_64_bits_is_refused_in_words(other: str, tmp_path: Path) -> None:
    frame, _ = models.numbers()
    model = LinearRegression().fit(frame[["sepal_length"]], frame["sepal_width"])
    path = models.saved(model, tmp_path / "model.pkl")
    sample = tmp_path / "s.csv"
    sample.write_text(f"sepal_length,id\n{'1234567890' * 3},1\n{other},2\n")
    with pytest.raises(BadPackage, match=r"column 'sepal_length' .* more than 64 bits"):
        pack([path], sample=sample, repository=tmp_path / "r")


@pytest.mark.parametrize(("name", "said"), [("", "has no name"), ("a\x1b[2J", "control char")])
def test_columns_without_a_printable_name_are_refused(name: str, said: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({name: np.arange(20.0)})
    named = models.saved(LinearRegression().fit(frame, range(20)), tmp_path / "named.pkl")
    with pytest.raises(BadPackage, match=rf"column.* of named\.pkl {said}|named\.pkl has a {said}"):
        models.packed(tmp_path, [named])
    bare = LinearRegression().fit(frame.to_numpy(), range(20))
    frame.to_parquet(tmp_path / "s.parquet")
    with pytest.raises(BadPackage, match=rf"the sample s\.parquet .*{said}"):
        pack(
            [models.saved(bare, tmp_path / "bare.pkl")],
            sample=tmp_path / "s.parquet",
            repository=tmp_path / "r",
        )


@pytest.mark.parametrize("sampled", [True, False])
def test_bounds_exclude_no_row_that_was_shown(sampled: bool, tmp_path: Path) -> None:
    from sklearn.compose import TransformedTargetRegressor

    frame = pd.DataFrame({"a": np.arange(-200.0, 200.0)})
    model = TransformedTargetRegressor(LinearRegression(), func=np.sin, inverse_func=np.arcsin)
    model = models.trained(model, frame, frame["a"] / 300)
    path = models.saved(model, tmp_path / "model.pkl")
    sample = models.sampled(frame, tmp_path / "s.csv") if sampled else None
    folder = pack([path], sample=sample, repository=tmp_path / "r", trust=True, compile=False)
    (a,) = models.manifest_of(folder).signature.inputs
    assert [a.accept(value) for value in (-200.0, 199.0, 300.0)] == [-200.0, 199.0, 300.0]


def test_no_bound_excludes_whole_numbers_of_the_sample(tmp_path: Path) -> None:
    large = [2**53 + 2 * place for place in range(20)]
    frame = pd.DataFrame({"id": large, "x": range(20)})
    signature = signature_of(tmp_path, LinearRegression().fit(frame, range(20)), frame)
    assert signature.inputs[0].accept(large[-1]) == large[-1]
    assert signature.inputs[1].maximum == 2**53


def test_a_slow_model_is_tried_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foretell.packing import trial

    frame, y = models.numbers()
    model = RandomForestClassifier(3, random_state=0).fit(frame, y)
    monkeypatch.setattr(trial, "_LONGEST_S", -1.0)
    assert all(field.maximum is None for field in signature_of(tmp_path, model, frame).inputs)


@pytest.mark.parametrize("targets", [1, 2])
def test_classes_that_are_bytes_are_texts(targets: int, tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier

    frame, _ = models.numbers()
    y = np.array([b"no", b"yes", b"no"] * 50)
    model = DecisionTreeClassifier().fit(frame, y if targets == 1 else np.c_[y, y])
    path = models.saved(model, tmp_path / "model.pkl")
    folder = pack([path], repository=tmp_path / "r")
    labels = models.manifest_of(folder).signature.class_labels
    assert labels == (("no", "yes") if targets == 1 else (("no", "yes"),) * 2)
    answers = models.answered(models.opened(folder), frame)
    assert answers["prediction"].tolist() == np.char.decode(model.predict(frame)).tolist()


def test_classes_that_are_other_bytes_are_refused(tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier

    frame, _ = models.numbers()
    model = DecisionTreeClassifier().fit(frame, np.array([b"n\xff", b"yes", b"no"] * 50))
    with pytest.raises(BadPackage, match="no UTF-8 text"):
        signature_of(tmp_path, model)
