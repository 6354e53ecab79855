"""The page on batch jobs and the schedulers' examples are run, as they are written."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples" / "batch"


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [text for told, text in found if told == kind]


def customers(churn: Path, trained: Path, folder: Path) -> None:
    """A reader's files: everything the pages speak of."""
    table = pd.read_csv(trained / "sample.csv")
    (folder / "models").symlink_to(churn)
    table.to_parquet(folder / "customers.parquet", index=False)
    table.to_csv(folder / "customers.csv", index=False)
    for region in ("eu", "us"):
        (folder / "customers" / f"region={region}").mkdir(parents=True)
        table.to_parquet(folder / "customers" / f"region={region}" / "a.parquet", index=False)
    names = {"age": "customer_age", "tenure": "months"}
    table.rename(columns=names).to_csv(folder / "export.csv", index=False)
    (folder / "dirty.csv").write_text(
        "age,tenure,monthly_charges,total_charges\n35,24,65.5,1572\nold,36,85,3060\n"
    )


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_commands_and_the_python_work_as_written(
    churn: Path, trained: Path, tmp_path: Path
) -> None:
    customers(churn, trained, tmp_path)
    lines = [line for text in blocks("") for line in text.splitlines()]
    commands = [line for line in lines if line.startswith("foretell batch")]
    assert len(commands) == 7
    for line in commands:
        ended = run(["-m", *shlex.split(line)], tmp_path)
        assert ended.returncode == (3 if "dirty" in line else 0), (line, ended.stderr)
    for code in blocks("python"):
        ended = run(["-c", code], tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1].startswith("100 ")
    (told,) = blocks("json")
    (bad,) = (tmp_path / "scored-dirty" / "_quarantine").iterdir()
    assert json.loads(bad.read_text()) == json.loads(told)
    assert (tmp_path / "by-region" / "region=eu").is_dir()


def test_the_readme_tells_of_it(churn: Path, trained: Path, tmp_path: Path) -> None:
    customers(churn, trained, tmp_path)
    (line,) = re.findall(r"^foretell batch .*$", README, flags=re.MULTILINE)
    ended = run(["-m", *shlex.split(line)], tmp_path)
    assert ended.returncode == 0, ended.stderr


def shelled(command: str, churn: Path, trained: Path, folder: Path, **env: str) -> None:
    """Run a scheduler's command in a shell, with the folder in the place of its own."""
    customers(churn, trained, folder)
    (folder / "foretell").write_text(f'#!/bin/sh\nexec {sys.executable} -m foretell "$@"\n')
    (folder / "foretell").chmod(0o755)
    told = {**os.environ, **env, "PATH": f"{folder}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(folder.glob("scored/*/_SUCCESS"))


def test_the_dag_calls_its_operator_with_a_command_that_works(
    churn: Path, trained: Path, tmp_path: Path
) -> None:
    parsed = ast.parse((EXAMPLES / "airflow_dag.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(parsed) if isinstance(node, ast.Call)]
    (operator,) = [
        {word.arg: word.value for word in call.keywords}
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "BashOperator"
    ]
    assert set(operator) == {"task_id", "bash_command", "append_env", "env"}
    names: dict[str, Any] = {"ROOT": str(tmp_path)}
    code = compile(ast.Expression(operator["bash_command"]), "dag", "eval")
    command = eval(code, names).replace("{{ ds }}", "2026-01-01")
    command = command.replace(f"{tmp_path}/customers/day=2026-01-01/", f"{tmp_path}/customers/")
    shelled(command, churn, trained, tmp_path, **ast.literal_eval(operator["env"]))


def test_the_crontab_has_a_command_that_works(churn: Path, trained: Path, tmp_path: Path) -> None:
    *settings, line = [
        line
        for line in (EXAMPLES / "crontab").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    env = dict(setting.split("=", 1) for setting in settings)
    command = line.split(maxsplit=5)[5].replace(r"\%", "%").replace("/data/", f"{tmp_path}/")
    command = command.replace("/var/lib/node_exporter/", f"{tmp_path}/")
    shelled(command, churn, trained, tmp_path, **env)
    assert "foretell_batch_success" in (tmp_path / "score_customers.prom").read_text()


def test_the_cronjob_has_a_command_that_works(churn: Path, trained: Path, tmp_path: Path) -> None:
    text = (EXAMPLES / "cronjob.yaml").read_text(encoding="utf-8")
    (told,) = re.findall(r"args:\n +- \|\n((?: {18}.*\n)+)", text)
    command = told.replace("/data/", f"{tmp_path}/")
    command = re.sub(r" --pushgateway \S+", "", command)
    shelled(command, churn, trained, tmp_path, FORETELL_BATCH_THREADS="2")
