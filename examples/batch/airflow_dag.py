"""A day's customers are scored every night: an Airflow DAG (Airflow 3, or 2 from 2.4 on).

A try that is killed costs nothing but its last part: the next one goes on where it stopped. Exit
code 3 (done, but for some bad rows) is a success here; the rows wait in `_quarantine/`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:  # Airflow 2
    from airflow.operators.bash import BashOperator

ROOT = "/data"

with DAG(
    dag_id="score_customers",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
) as dag:
    BashOperator(
        task_id="score",
        bash_command=(
            f"foretell batch {ROOT}/models/ {ROOT}/customers/day={{{{ ds }}}}/ "
            f"{ROOT}/scored/day={{{{ ds }}}}/ --on-bad-row quarantine --quiet || [ $? -eq 3 ]"
        ),
        append_env=True,
        env={"FORETELL_BATCH_THREADS": "4"},
    )
