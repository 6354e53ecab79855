"""Settings: three sources, one judge, and errors that name the fix."""

import re
from pathlib import Path
from typing import Any

import pytest

from foretell.app.caching.choices import CacheSettings
from foretell.app.settings import ClientSettings, Settings
from foretell.engine.executors.choosing import ExecutorKind
from foretell.errors import BadSettings


def read(flags: dict[str, Any] | None = None, toml: str = "", **environ: str) -> Settings:
    path = Path("foretell.toml")
    path.write_text(toml)
    return Settings.read(flags or {}, environ=environ)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_variables_and_variables_over_the_file() -> None:
    toml = "workers = 2\nmax_rows = 5\nlog_level = 'debug'"
    got = read({"workers": "4"}, toml, FORETELL_WORKERS="3", FORETELL_MAX_ROWS="6")
    assert (got.workers, got.max_rows, got.log_level) == (4, 6, "debug")


def test_a_named_file_replaces_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "foretell.toml").write_text("workers = 2")
    other = tmp_path / "other.toml"
    other.write_text("max_rows = 7")
    got = Settings.read(config=other, environ={})
    assert (got.workers, got.max_rows) == (1, 7)


@pytest.mark.parametrize(
    "told", ["auto,churn=thread", ["auto,churn=thread"], ["auto", "churn=thread"]]
)
def test_several_words_may_stand_in_one_flag(told: object) -> None:
    settings = Settings.read({"executor": told}, environ={})
    assert settings.executor_of("churn") is ExecutorKind.THREAD
    assert settings.executor_of("other") is ExecutorKind.AUTO


@pytest.mark.parametrize("told", ["0.001, 0.5", ["0.001,0.5"], ["0.001", "0.5"], [0.001, 0.5]])
def test_buckets_may_be_given_in_every_way(told: object) -> None:
    assert Settings.read({"latency_buckets_s": told}, environ={}).latency_buckets_s == (0.001, 0.5)


def test_one_string_may_name_several_addresses() -> None:
    assert read(FORETELL_BIND="0.0.0.0:80, [::]:81,unix:/x").bind == (
        "0.0.0.0:80",
        "[::]:81",
        "unix:/x",
    )


@pytest.mark.parametrize(
    ("flags", "toml", "environ", "words"),
    [
        ({}, "worker = 2", {}, "no setting 'worker' (from foretell.toml); did you mean 'workers'?"),
        ({}, "", {"FORETELL_MAX_ROW": "1"}, "from the environment); did you mean 'max_rows'?"),
        ({"zzz": 1}, "", {}, "there are bind, workers"),
        ({"workers": "0"}, "", {}, "workers is '0' (from the command line), but must be"),
        ({"workers": "two"}, "", {}, "valid integer"),
        ({"log_level": "inof"}, "", {}, "did you mean 'info'?"),
        ({"bind": ["8000"]}, "", {}, "'8000' is no address; take HOST:PORT"),
        ({"bind": ["a:70000"]}, "", {}, "is no address"),
        ({"certfile": "x"}, "", {}, "keyfile is missing"),
        ({"client_cafile": "x"}, "", {}, "client_cafile is for TLS"),
        ({"rate_limit": "0/s"}, "", {}, "greater than 0"),
        ({"rate_limit": "5/min"}, "", {}, "valid number"),
        ({"rate_burst": "5"}, "", {}, "rate_limit, which is missing"),
        ({"jwt_issuer": "x", "jwt_jwks": "x"}, "", {}, "jwt_audience is missing"),
        ({"jwt_jwks": "http://idp.example/keys"}, "", {}, "take an https URL, or a file"),
        ({"jwt_jwks": "ftp://localhost/keys"}, "", {}, "ftp is not read"),
        ({"bind": "0.0.0.0:1", "model_control": True}, "", {}, "give keys_file, too"),
        ({}, "workers = ", {}, "is not TOML"),
        ({}, "workers = true", {}, "workers is true (from foretell.toml), which it can't be"),
        ({"executor": "treads"}, "", {}, "'treads' is no executor"),
        ({"latency_buckets_s": "0.1,0.1"}, "", {}, "above the one before it"),
        ({"latency_buckets_s": "0,1"}, "", {}, "above 0"),
        ({"latency_buckets_s": "1,inf"}, "", {}, "each bound must be"),
        ({"latency_buckets_s": "nan"}, "", {}, "each bound must be"),
        ({"latency_buckets_s": "0.1,soon"}, "", {}, "valid number"),
        ({"metrics_bind": "9090"}, "", {}, "'9090' is no address"),
        ({"metrics_bind": "localhost:0"}, "", {}, "must know the port"),
        ({"metrics_bind": "0.0.0.0:08000"}, "", {}, "a port that no other bind has"),
        ({"metrics_bind": "a:9090", "metrics": "false"}, "", {}, "metrics is off"),
        ({"certfile": "x"}, "", {}, "TLS needs both"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_fix(
    flags: dict[str, Any], toml: str, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(BadSettings) as caught:
        read(flags, toml, **environ)
    assert words in caught.value.message


def test_tokens_guard_model_control_as_keys_do() -> None:
    told = {"jwt_issuer": "x", "jwt_audience": "y", "jwt_jwks": "https://x/jwks"}
    assert read({"bind": "0.0.0.0:1", "model_control": True, **told}).model_control


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be read"):
        Settings.read(config=tmp_path / "none.toml", environ={})


def test_what_kubernetes_sets_for_a_service_called_foretell_is_left_alone() -> None:
    read(FORETELL_SERVICE_HOST="10.0.0.1", FORETELL_PORT="tcp://x", FORETELL_PORT_80_TCP="y")


def test_the_cache_follows_the_xdg_directories() -> None:
    assert read({"cache_dir": "/x"}).cache_dir == Path("/x")


def test_a_client_has_settings_of_its_own_in_a_table_of_its_own() -> None:
    toml = "workers = 2\n[client]\ntimeout_s = 5\nattempts = 2"
    environ = {"FORETELL_CLIENT_API_KEY": "secret", "FORETELL_WORKERS": "3"}
    assert read({}, toml, **environ).workers == 3
    got = ClientSettings.read({"attempts": "7"}, environ=environ)
    assert (got.timeout_s, got.attempts, got.api_key) == (5.0, 7, "secret")
    assert "secret" not in repr(got)


@pytest.mark.parametrize(
    ("flags", "toml", "environ", "words"),
    [
        ({}, "client = 1", {}, "client in foretell.toml must be a table: [client]"),
        (
            {},
            "[client]\ntimeout = 5",
            {},
            "'timeout' (from foretell.toml); did you mean 'timeout_s",
        ),
        ({}, "", {"FORETELL_CLIENT_KEY": "x"}, "(from the environment); did you mean"),
        ({"balance": "rand"}, "", {}, "balance is 'rand' (from the command line), but must be"),
        ({"timeout_s": "0"}, "", {}, "timeout_s is '0'"),
        ({"keyfile": "x"}, "", {}, "certfile is missing"),
    ],
)
def test_a_clients_mistakes_are_told_as_a_servers(
    flags: dict[str, Any], toml: str, environ: dict[str, str], words: str
) -> None:
    Path("foretell.toml").write_text(toml)
    with pytest.raises(BadSettings, match=re.escape(words)):
        ClientSettings.read(flags, environ=environ)


def test_what_a_client_is_told_is_no_business_of_a_server() -> None:
    toml = "[client]\nnothing_known = 5"
    assert read({}, toml, FORETELL_CLIENT_NOTHING="x").workers == 1


def test_a_cache_is_set_for_each_model_in_the_file() -> None:
    toml = "[models.churn.cache]\nstore = 'memory'\nttl_s = 60\n[models.'a.b']\n"
    assert read(toml=toml).caches == {"churn": CacheSettings(store="memory", ttl_s=60)}
    assert read().caches == {}


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[models.churn.cache]\nstore = 'memroy'", r"models\.churn\.cache\.store .* \(from f"),
        ("[models.churn.cache]", r"models\.churn\.cache\.store"),
        ("[models.churn.cach]\nstore = 'memory'", r"there is no setting models\.churn\.cach "),
        ("[models.churn.cache]\nstore = 'memory'\nttl = 1", r"no setting models.*\.ttl "),
        ("models = 3", "models is 3"),
    ],
)
def test_a_wrong_cache_is_refused_with_its_place(toml: str, words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        read(toml=toml)


def test_what_is_set_for_single_models_stands_in_the_file_alone() -> None:
    with pytest.raises(BadSettings, match="models stands in the settings file, not in the env"):
        read(FORETELL_MODELS="{}")
