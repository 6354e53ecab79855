"""A class of one's own is packed with its code and its data, and served from there."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.errors import BadPackage
from foretell.packing import pack
from tests import models

SAMPLE = pd.DataFrame({"age": [35.0, 61.5, 20.0], "plan": ["basic", None, "gold"]})

ADDING = """
import numpy as np
from pathlib import Path

class Model:
    def load(self, folder: Path) -> None:
        self.extra = float((folder / "extra.txt").read_text())

    def predict(self, columns):
        known = np.array([plan is not None for plan in columns["plan"]])
        return {"prediction": columns["age"] + self.extra, "has_plan": known}
"""

DECLARED = """
import numpy as np
from foretell import Field, Signature

class Model:
    signature = Signature((Field("x", "FP64"),), (Field("prediction", "FP64"),), example=(2.0,))

    def predict(self, columns):
        return columns["x"] ** 2
"""


def sample(tmp_path: Path) -> Path:
    return models.sampled(SAMPLE, tmp_path / "s.csv")


def test_a_class_answers_with_its_code_and_data(tmp_path: Path) -> None:
    (tmp_path / "adding.py").write_text(ADDING)
    (tmp_path / "extra.txt").write_text("0.5")
    folder = pack(
        ["adding:Model", tmp_path / "extra.txt"],
        sample=sample(tmp_path),
        repository=tmp_path / "r",
        python_path=tmp_path,
    )
    assert folder.parent.name == "adding"
    (tmp_path / "adding.py").unlink()
    (tmp_path / "extra.txt").unlink()
    answers = models.answered(models.opened(folder), SAMPLE)
    assert answers["prediction"].tolist() == [35.5, 62.0, 20.5]
    assert answers["has_plan"].tolist() == [True, False, True]
    assert "adding" not in sys.modules


def test_a_declared_signature_is_the_package_s(tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(DECLARED)
    folder = pack(["squares:Model"], repository=tmp_path / "r", python_path=tmp_path)
    signature = models.manifest_of(folder).signature
    assert signature.example == (2.0,)
    answers = models.answered(models.opened(folder), pd.DataFrame({"x": [3.0, 4.0]}))
    assert answers["prediction"].tolist() == [9.0, 16.0]


def test_a_declared_output_that_is_not_given_is_refused(tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(DECLARED.replace('Field("prediction"', 'Field("area"'))
    with pytest.raises(BadPackage, match="declares an output 'area'"):
        pack(["squares:Model"], repository=tmp_path / "r", python_path=tmp_path)


def test_two_versions_of_a_module_live_side_by_side(tmp_path: Path) -> None:
    servables = []
    for version, number in (("1", "2"), ("2", "3")):
        (tmp_path / "powers.py").write_text(DECLARED.replace("** 2", f"** {number}"))
        folder = pack(
            ["powers:Model"], version=version, repository=tmp_path / "r", python_path=tmp_path
        )
        servables.append(models.opened(folder))
    frame = pd.DataFrame({"x": [2.0]})
    assert [models.answered(one, frame)["prediction"][0] for one in servables] == [4.0, 8.0]


@pytest.mark.parametrize(
    "statement", ["from .inner import power", "from shapes.inner import power"]
)
def test_files_of_a_code_package_import_one_another(statement: str, tmp_path: Path) -> None:
    code = tmp_path / "shapes"
    code.mkdir()
    (code / "__init__.py").write_text("")
    (code / "inner.py").write_text("power = 2")
    (code / "area.py").write_text(f"{statement}\n{DECLARED.replace('** 2', '** power')}")
    folder = pack(["shapes.area:Model"], repository=tmp_path / "r", python_path=tmp_path)
    answers = models.answered(models.opened(folder), pd.DataFrame({"x": [3.0]}))
    assert answers["prediction"].tolist() == [9.0]
    assert not [name for name in sys.modules if name.partition(".")[0] == "shapes"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Other:\n    def predict(self, columns): ...", "no class Model"),
        ("class Model:\n    pass", "no class Model with a method predict"),
        ("raise RuntimeError('no licence')", "no licence"),
        ("class Model:\n    def __init__(self): 1 / 0\n    def predict(self, c): ...", "division"),
        ("class Model:\n    def predict(self, columns): return [1]", "number of rows"),
        ("class Model:\n    def predict(self, columns): return columns['age'].sum()", "rows"),
    ],
)
def test_a_class_that_cannot_serve_is_refused(code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(BadPackage, match=said):
        pack(
            ["broken:Model"],
            sample=sample(tmp_path),
            repository=tmp_path / "r",
            python_path=tmp_path,
        )
    assert not list((tmp_path / "r").iterdir())


def test_a_class_without_signature_or_sample_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "adding.py").write_text("class Model:\n    def predict(self, columns): return 1")
    with pytest.raises(BadPackage, match="--sample"):
        pack(["adding:Model"], repository=tmp_path / "r", python_path=tmp_path)


def test_missing_numbers_reach_a_class_as_nan(tmp_path: Path) -> None:
    (tmp_path / "gaps.py").write_text(
        "import numpy as np\nclass Model:\n    def predict(self, c): return np.isnan(c['age'])"
    )
    frame = pd.DataFrame({"age": [1.0, np.nan]})
    folder = pack(
        ["gaps:Model"],
        sample=models.sampled(frame, tmp_path / "s.csv"),
        repository=tmp_path / "r",
        python_path=tmp_path,
    )
    assert models.answered(models.opened(folder), frame)["prediction"].tolist() == [False, True]


EXITS = {
    "import": "import sys\nsys.exit(3)",
    "__init__": (
        "class Model:\n    def __init__(self): raise SystemExit(3)\n    def predict(s, c): ..."
    ),
    "load": "class Model:\n    def load(self, f): raise SystemExit(3)\n    def predict(s, c): ...",
    "predict": "class Model:\n    def predict(self, columns): raise SystemExit(3)",
    "base": "class Model:\n    def predict(self, columns): raise GeneratorExit",
    "signature": (
        "class Model:\n    @property\n    def signature(self): raise SystemExit(3)\n"
        "    def predict(self, columns): ..."
    ),
}


@pytest.mark.parametrize("where", list(EXITS))
def test_a_class_that_exits_is_a_bad_package(where: str, tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(EXITS[where])
    with pytest.raises(BadPackage, match=r"SystemExit\(3\)|GeneratorExit"):
        pack(
            ["leaving:Model"],
            sample=sample(tmp_path),
            repository=tmp_path / "r",
            python_path=tmp_path,
        )
    assert not list((tmp_path / "r").iterdir())


@pytest.mark.parametrize(
    "answer", ["np.array([b'ok'] * n)", "[b'ok'] * n", "np.array([b'ok'] * n, object)"]
)
def test_bytes_are_answered_as_text(answer: str, tmp_path: Path) -> None:
    (tmp_path / "bytesy.py").write_text(
        "import numpy as np\nclass Model:\n    def predict(self, columns):\n"
        f"        n = len(columns['age'])\n        return {answer}\n"
    )
    folder = pack(
        ["bytesy:Model"],
        sample=sample(tmp_path),
        repository=tmp_path / "r",
        python_path=tmp_path,
    )
    assert models.manifest_of(folder).signature.outputs[0].datatype is Datatype.BYTES
    answers = models.answered(models.opened(folder), SAMPLE)
    assert answers["prediction"].tolist() == ["ok"] * 3


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytesy.py").write_text(
        "class Model:\n    def predict(self, columns): return [b'\\xff'] * len(columns['age'])\n"
    )
    with pytest.raises(BadPackage, match="no UTF-8 text"):
        pack(
            ["bytesy:Model"],
            sample=sample(tmp_path),
            repository=tmp_path / "r",
            python_path=tmp_path,
        )


def test_a_class_is_never_tried_with_extreme_numbers(tmp_path: Path) -> None:
    (tmp_path / "sleepy.py").write_text(
        "import time\nclass Model:\n    def predict(self, columns):\n"
        "        assert not (abs(columns['x']) > 100).any(), time.sleep(3600)\n"
        "        return columns['x']\n"
    )
    folder = pack(
        ["sleepy:Model"],
        sample=models.sampled(pd.DataFrame({"x": [0.5, 2.5]}), tmp_path / "s.csv"),
        repository=tmp_path / "r",
        python_path=tmp_path,
    )
    (x,) = models.manifest_of(folder).signature.inputs
    assert (x.minimum, x.maximum, x.nullable) == (None, None, False)


def test_what_a_class_prints_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chatty.py").write_text(
        "print('imported')\n"
        + DECLARED.replace("        return", "        print('asked')\n        return")
    )
    pack(["chatty:Model"], repository=tmp_path / "r", python_path=tmp_path)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "imported" in printed.err
    assert "asked" in printed.err


@pytest.mark.parametrize("name", ["", "a\x07"])
def test_outputs_without_a_printable_name_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "nameless.py").write_text(
        f"class Model:\n    def predict(self, columns): return {{{name!r}: columns['age']}}"
    )
    with pytest.raises(BadPackage, match="cannot be the name of an output"):
        pack(
            ["nameless:Model"],
            sample=sample(tmp_path),
            repository=tmp_path / "r",
            python_path=tmp_path,
        )


REUSING = """
import numpy as np
from foretell import Field, Signature

class Model:
    signature = Signature((Field("x", "FP64"),), (Field("prediction", "FP64"),), example=(2.0,))

    def __init__(self):
        self.memory = np.empty(10)

    def predict(self, columns):
        return np.multiply(columns["x"], 2, out=self.memory[: len(columns["x"])])
"""


def test_a_class_may_write_each_answer_over_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "reusing.py").write_text(REUSING)
    servable = models.opened(pack(["reusing:Model"], repository=tmp_path, python_path=tmp_path))
    inputs = servable.signature.inputs
    first, second = (servable.predict(Batch.from_rows(inputs, [(value,)])) for value in (1.0, 2.0))
    assert (first.rows, second.rows) == ([(2.0,)], [(4.0,)])
