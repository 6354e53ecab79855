"""A packed estimator answers exactly what scikit-learn answers."""

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.errors import BadPackage
from foretell.packing import pack
from foretell.packing.sample import batch_of
from tests import models


@pytest.mark.parametrize("kind", list(models.classifiers()))
def test_a_classifier_answers_its_own_labels_and_probabilities(kind: str, tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = models.trained(models.classifiers()[kind](), frame, y)
    path = models.saved(model, tmp_path / "model.pkl")
    folder = models.packed(tmp_path, [path], frame)
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["prediction"], model.predict(frame))
    if hasattr(model, "predict_proba"):
        models.assert_same(answers["probability"], model.predict_proba(frame))
    else:
        assert set(answers) == {"prediction"}
    signature = models.manifest_of(folder).signature
    assert signature.class_labels == (0, 1, 2)
    assert signature.input_names == tuple(frame.columns)
    assert signature.outputs[0].datatype is Datatype.INT64


@pytest.mark.parametrize("kind", list(models.regressors()))
@pytest.mark.parametrize("named", [True, False])
def test_a_regressor_answers_numbers_only(kind: str, named: bool, tmp_path: Path) -> None:
    frame, y = models.numbers()
    targets = np.column_stack([y, -y]) if kind == "several" else y * 1.5
    given = frame if named else np.ascontiguousarray(frame.to_numpy())
    model = models.trained(models.regressors()[kind](), given, targets)
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")])
    signature = models.manifest_of(folder).signature
    assert signature.input_names == (tuple(frame.columns) if named else ("x0", "x1", "x2", "x3"))
    table = frame.set_axis(list(signature.input_names), axis=1)
    answers = models.answered(models.opened(folder), table)
    models.assert_same(answers["prediction"], model.predict(given))
    assert set(answers) == {"prediction"}
    assert signature.class_labels is None


@pytest.mark.parametrize("kind", list(models.others()))
def test_outlier_detectors_score_and_clusterers_only_predict(kind: str, tmp_path: Path) -> None:
    frame, _ = models.numbers()
    model = models.trained(models.others()[kind](), frame)
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")])
    answers = models.answered(models.opened(folder), frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn drops the names it then complains about
        models.assert_same(answers["prediction"], model.predict(frame))
        if kind == "clusters":
            assert set(answers) == {"prediction"}
        else:
            models.assert_same(answers["score"], model.decision_function(frame))


@pytest.mark.parametrize(
    ("labels", "datatype"),
    [
        (np.array(["setosa", "versicolor", "virginica"]), Datatype.BYTES),
        (np.array(["a", "b", "c"], dtype=object), Datatype.BYTES),
        (np.array([False, True, True]), Datatype.BOOL),
        (np.array([0.0, 1.0, 2.0]), Datatype.FP64),
        (np.array([10, 20, 30], dtype=object), Datatype.INT64),
    ],
)
def test_labels_keep_their_kind(labels: Any, datatype: Datatype, tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier

    frame, y = models.numbers()
    truth = labels[y]
    if truth.dtype == object and not isinstance(truth[0], str):
        truth = truth.astype(int)
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(frame, truth)
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")])
    signature = models.manifest_of(folder).signature
    assert signature.outputs[0].datatype is datatype
    assert signature.class_labels == tuple(np.unique(truth).tolist())
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["prediction"], model.predict(frame))


def test_a_multi_output_classifier_gives_each_target_its_probabilities(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    frame, y = models.numbers()
    model = RandomForestClassifier(3, random_state=0).fit(frame, np.column_stack([y, y > 0]))
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")])
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["prediction"], model.predict(frame))
    for place, expected in enumerate(model.predict_proba(frame)):
        models.assert_same(answers[f"probability_{place}"], expected)
    assert models.manifest_of(folder).signature.class_labels == ((0, 1, 2), (0, 1))


def test_strings_numbers_and_gaps_answer_as_in_scikit_learn(tmp_path: Path) -> None:
    frame, y = models.churn()
    model = models.churn_pipeline(frame, y)
    table = frame.assign(customer=range(len(frame)), churn=y)
    folder = pack(
        [models.saved(model, tmp_path / "churn.pkl")],
        sample=models.sampled(table, tmp_path / "s.csv"),
        repository=tmp_path / "r",
        compile=False,
    )
    answers = models.answered(models.opened(folder), frame)
    assert answers["prediction"].tolist() == model.predict(frame).tolist()
    models.assert_same(answers["probability"], model.predict_proba(frame))
    fields = {field.name: field for field in models.manifest_of(folder).signature.inputs}
    assert list(fields) == list(frame.columns)
    assert models.manifest_of(folder).steps[0].options["missing"] == "nan"
    assert fields["monthly_charges"].nullable
    assert fields["monthly_charges"].datatype is Datatype.FP64
    assert fields["contract"].nullable
    assert fields["contract"].categories == ("Month-to-month", "One year", "Two year")
    assert fields["contract"].closed
    assert not fields["senior_citizen"].nullable


def test_a_text_column_trained_with_none_stays_none(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"plan": ["a", "b", None, "a", None, "b"]}, dtype=object)
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [0, 1, 1, 0, 1, 0])
    assert None in model[0].categories_[0]
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")], frame)
    assert models.manifest_of(folder).steps[0].options["missing"] == "none"
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["probability"], model.predict_proba(frame))


def test_a_column_of_texts_is_a_model_s_only_input(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts = ["good day", "bad day", "good food", "bad food"]
    model = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(texts, [1, 0, 1, 0])
    folder = models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")])
    servable = models.opened(folder)
    assert servable.signature.input_names == ("text",)
    answers = models.answered(servable, pd.DataFrame({"text": texts}))
    models.assert_same(answers["probability"], model.predict_proba(texts))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("framed", [True, False])
def test_a_scaler_and_its_model_answer_as_one(named: bool, framed: bool, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    frame, y = models.numbers()
    asked = frame if named else np.ascontiguousarray(frame.to_numpy())
    scaler = StandardScaler().fit(asked)
    scaled = scaler.transform(asked)
    if framed:
        scaled = pd.DataFrame(scaled, columns=frame.columns)
    model = LogisticRegression().fit(scaled, y)
    files = [
        models.saved(scaler, tmp_path / "scaler.pkl"),
        models.saved(model, tmp_path / "model.pkl"),
    ]
    folder = models.packed(tmp_path, files, frame)
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["prediction"], model.predict(scaled))
    models.assert_same(answers["probability"], model.predict_proba(scaled))
    assert [step.files for step in models.manifest_of(folder).steps] == [
        ("scaler.pkl",),
        ("model.pkl",),
    ]


def test_a_model_trained_on_the_scaler_s_columns_in_another_order_is_refused(
    tmp_path: Path,
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    frame, y = models.numbers()
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    model = LogisticRegression().fit(scaler.transform(frame)[frame.columns[::-1]], y)
    files = [
        models.saved(scaler, tmp_path / "scaler.pkl"),
        models.saved(model, tmp_path / "model.pkl"),
    ]
    with pytest.raises(BadPackage, match=r"scaler\.pkl gives sepal_length"):
        models.packed(tmp_path, files)


@pytest.mark.parametrize("form", ["pickle", "joblib", "gz", "bz2", "xz", "zlib", "skops"])
def test_every_file_format_gives_the_same_answers(form: str, tmp_path: Path) -> None:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    frame, y = models.numbers()
    model = RandomForestClassifier(3, random_state=0).fit(frame, y)
    path = tmp_path / f"model.{form}"
    if form == "pickle":
        models.saved(model, path)
    elif form == "skops":
        skops.io.dump(model, path)
    else:
        joblib.dump(model, path, compress=0 if form == "joblib" else 3)
    folder = models.packed(tmp_path, [path])
    answers = models.answered(models.opened(folder), frame)
    models.assert_same(answers["probability"], model.predict_proba(frame))


def test_a_pipeline_transforms_once_for_both_answers(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from foretell.runtimes.estimators import EstimatorStage

    calls: list[int] = []

    class Counting(StandardScaler):  # type: ignore[misc]
        def transform(self, frame: Any, copy: Any = None) -> Any:
            calls.append(len(frame))
            return super().transform(frame, copy)

    frame, y = models.numbers()
    model = make_pipeline(Counting(), LogisticRegression()).fit(frame.to_numpy(), y)
    stage = EstimatorStage(model, "model.pkl")
    calls.clear()
    answers = stage.predict(frame.to_numpy())
    assert calls == [150]
    models.assert_same(np.asarray(answers["probability"]), model.predict_proba(frame.to_numpy()))


def test_a_batch_without_rows_has_no_answers(tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = models.trained(models.classifiers()["tree"](), frame, y)
    servable = models.opened(models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")]))
    assert servable.predict(Batch.from_rows(servable.signature.inputs, [])).n_rows == 0


def test_rows_columns_and_matrix_of_a_batch_answer_alike(tmp_path: Path) -> None:
    frame, y = models.numbers()
    model = models.trained(models.classifiers()["pipeline"](), frame, y)
    servable = models.opened(models.packed(tmp_path, [models.saved(model, tmp_path / "model.pkl")]))
    inputs = servable.signature.inputs
    batches = [
        batch_of(frame, inputs),
        Batch.from_rows(inputs, [tuple(row) for row in frame.to_numpy().tolist()]),
        Batch.from_matrix(inputs, frame.to_numpy()),
    ]
    answers = [servable.predict(batch).column("probability") for batch in batches]
    for answer in answers:
        models.assert_same(answer, model.predict_proba(frame))
