"""`foretell serve` from start to end: how it starts, ends, fails, and stands being hurt."""

import json
import os
import signal
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from tests.servers import Server, running, start

pytestmark = pytest.mark.slow

ROW = {"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}


def link_to(server: Server) -> socket.socket:
    place = urlsplit(server.url)
    assert place.hostname is not None
    return socket.create_connection((place.hostname, place.port or 80), timeout=30)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_a_signal_ends_it_cleanly(churn: Path, how: signal.Signals, kind: str) -> None:
    with running(churn, "--server", kind) as server:
        assert server.stop(how) == 0
    assert "Traceback" not in server.log


def test_a_raw_model_file_is_packed_once_and_served(trained: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        with running(trained / "model.pkl", "--cache-dir", cache) as server:
            told = httpx.post(f"{server.url}/predict", json={"features": [0, 0, 0, 0]}).json()
    assert told["model_version"].startswith("0+")
    assert len(list(cache.glob("*/model/*/model.json"))) == 1


def test_two_servers_may_pack_the_same_file_at_once(trained: Path, tmp_path: Path) -> None:
    arguments = (trained / "model.pkl", "--cache-dir", tmp_path / "cache")
    both = [start(*arguments), start(*arguments)]
    try:
        for server in both:
            server.wait()
            told = httpx.post(f"{server.url}/predict", json={"features": [0, 0, 0, 0]})
            assert told.status_code == 200
    finally:
        codes = [server.stop() for server in both]
    assert codes == [0, 0]


def test_a_signal_while_packing_ends_all_of_it(trained: Path, tmp_path: Path) -> None:
    server = start(trained / "model.pkl", "--cache-dir", tmp_path / "cache")
    packing: list[int] = []
    while not packing and server.process.poll() is None:
        packing = children(server.process.pid)
    assert server.stop() == 0, server.log
    assert "Traceback" not in server.log
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in packing[1:])


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pkl")
    code, log = failing(tmp_path / "model.pkl")
    assert (code, "is not a regular file" in log) == (1, True)


def test_several_targets_are_served_side_by_side(churn: Path, trained: Path) -> None:
    with running(churn, trained / "model.pkl") as server:
        names = [m["name"] for m in httpx.get(f"{server.url}/models").json()["models"]]
        assert names == ["churn", "model"]
        reply = httpx.post(f"{server.url}/predict", json=ROW)
    assert reply.status_code == 404
    assert "none is the default; ask one of churn, model" in reply.json()["error"]


def test_settings_come_from_file_and_environment(churn: Path, tmp_path: Path) -> None:
    (tmp_path / "foretell.toml").write_text("max_rows = 1\nmax_body_bytes = 200\n")
    with running(churn, cwd=tmp_path, FORETELL_MAX_BODY_BYTES="300") as server:
        two = httpx.post(f"{server.url}/batch_predict", json={"instances": [[1, 2, 3, 4]] * 2})
        long = httpx.post(f"{server.url}/predict", content=b" " * 301)
    assert (two.status_code, "the limit is 1" in two.text) == (413, True)
    assert (long.status_code, "larger than 300 bytes" in long.text) == (413, True)


def test_it_listens_on_every_bind_and_speaks_http2(churn: Path) -> None:
    with running(churn, "--bind", "127.0.0.1:0", "--bind", "127.0.0.2:0") as server:
        urls = {word for word in server.log.split() if word.startswith("http://127.")}
        assert len(urls) == 2
        with httpx.Client(http1=False, http2=True) as client:
            told = [client.get(f"{url}/health") for url in urls]
    assert [reply.json()["status"] for reply in told] == ["healthy", "healthy"]
    assert {reply.http_version for reply in told} == {"HTTP/2"}


def test_it_serves_over_tls(churn: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    files: list[str | Path] = ["--certfile", tmp_path / "cert", "--keyfile", tmp_path / "key"]
    with running(churn, *files) as server:
        assert server.url.startswith("https://")
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        with httpx.Client(verify=trust) as client:
            assert client.post(f"{server.url}/predict", json=ROW).status_code == 200


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_worker_is_replaced(churn: Path) -> None:
    with running(churn, "--workers", "2") as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        answered = 0
        for _ in range(50):
            try:
                reply = httpx.post(f"{server.url}/predict", json=ROW, timeout=30)
            except httpx.TransportError:
                continue  # the connection was the dead worker's
            answered += reply.status_code == 200
        assert answered >= 45


def test_a_thousand_clients_are_all_answered(churn: Path) -> None:
    with running(churn) as server:
        body = json.dumps(ROW).encode()
        request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
        links = [link_to(server) for _ in range(1000)]
        for link in links:
            link.sendall(request % (len(body), body))
        replies = []
        for link in links:
            replies.append(link.recv(65536))
            link.close()
    assert all(reply.startswith(b"HTTP/1.1 200") for reply in replies)
    assert len({reply.rpartition(b"\r\n\r\n")[2] for reply in replies}) == 1


def test_slow_clients_hold_nobody_up(churn: Path) -> None:
    with running(churn) as server:
        slow = [link_to(server) for _ in range(50)]
        for link in slow:
            link.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(httpx.post, f"{server.url}/predict", json=ROW) for _ in range(100)]
            assert {reply.result().status_code for reply in asked} == {200}
        for link in slow:
            link.close()


@pytest.mark.parametrize("kind", ["h2corn", "uvicorn"])
def test_a_taken_port_is_one_sentence_and_a_failure(churn: Path, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = start(churn, "--bind", address, "--server", kind)
        assert server.ended() == 1
    assert f"cannot listen on {address}" in server.log
    assert "--bind" in server.log
    assert "Traceback" not in server.log


def failing(*arguments: str | Path) -> tuple[int, str]:
    server = start(*arguments)
    code = server.ended()
    assert "Traceback" not in server.log, server.log
    return code, server.log.replace("\n", " ")


def test_a_start_that_cannot_work_says_why(churn: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.pkl").write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    for arguments, code, words in [
        ([tmp_path / "none.pkl"], 1, "there is no"),
        ([tmp_path / "junk.pkl", "--cache-dir", tmp_path / "c"], 1, "junk.pkl"),
        ([tmp_path / "empty"], 1, "holds no packages"),
        ([churn, "--default-model", "other"], 1, "is not among churn"),
        ([churn, churn], 1, "given twice"),
        ([churn, "--workers", "0"], 2, "workers is '0'"),
        ([churn, "--log-level", "inof"], 2, "did you mean 'info'"),
    ]:
        got, log = failing(*arguments)  # type: ignore[misc] # a table of mixed arguments
        assert (got, words in log) == (code, True), log


def test_an_altered_artifact_is_refused_by_its_digest(own_churn: Path) -> None:
    model = next(own_churn.glob("*/*/*model.pkl"))
    content = bytearray(model.read_bytes())
    content[-20] ^= 1
    model.write_bytes(content)
    code, log = failing(own_churn)
    assert code == 1
    assert "was altered after packing" in log


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evil = tmp_path / "model.pkl"
    evil.write_bytes(b"cposix\nsystem\n(S'touch %s'\ntR." % str(mark).encode())
    code, log = failing(evil, "--cache-dir", tmp_path / "cache")
    assert code == 1
    assert "posix.system" in log
    assert not mark.exists()


def test_a_malicious_pickle_in_a_package_with_right_digests_is_refused(own_churn: Path) -> None:
    """Whoever can write the artifact can write its digest: the inspection must hold alone."""
    import hashlib

    mark = own_churn / "ran"
    evil = b"cposix\nsystem\n(S'touch %s'\ntR." % str(mark).encode()
    model = next(own_churn.glob("*/*/*model.pkl"))
    model.write_bytes(evil)
    manifest = model.parent / "model.json"
    told = json.loads(manifest.read_text())
    told["steps"] = told["compile_report"]["original"]["steps"]  # not the proven graph
    for file in told["files"]:
        if file["path"] == model.name:
            file |= {"sha256": hashlib.sha256(evil).hexdigest(), "size": len(evil)}
    manifest.write_text(json.dumps(told))
    code, log = failing(own_churn)
    assert code == 1
    assert "posix.system" in log
    assert not mark.exists()
