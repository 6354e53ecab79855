"""Statuses over gRPC, ours and other servers', as errors of the tree; metadata as signatures."""

import json
from base64 import b64decode
from typing import Any

import pytest

from foretell.client.calling import Kind, Reply
from foretell.client.rpc import SIGNATURE, RpcLanguage, outcome_of
from foretell.codecs import messages
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError
from foretell.transports.grpc.errors import CODES, failure
from tests.client.test_rest import made

URL = "grpc://127.0.0.1:50051"


def trailers_of(error: ForetellError) -> dict[str, Any]:
    """The trailers of a failure, as grpcio gives them."""
    told: dict[str, Any] = {name.decode(): value.decode() for name, value in failure(error, "r1")}
    details = told["grpc-status-details-bin"]
    told["grpc-status-details-bin"] = b64decode(details + "=" * (-len(details) % 4))
    return told


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_what_the_server_raised_the_client_raises(kind: type[ForetellError]) -> None:
    error = made(kind)
    told = trailers_of(error)
    code = int(told.pop("grpc-status"))
    got = outcome_of(code, told.pop("grpc-message"), told.items(), URL).error
    assert type(got) is kind
    assert (got.message, got.field, got.row) == ("words", error.field, error.row)
    assert getattr(got, "retry_after_s", 1.2) == pytest.approx(1.2)
    assert got.__notes__ == [f"request r1 to {URL}"]


@pytest.mark.parametrize(
    ("code", "words", "trailers", "kind", "slug"),
    [
        (14, "failed to connect to all addresses", {}, Kind.REFUSED, "no_answer"),
        (14, "Socket closed", {}, Kind.BROKEN, "no_answer"),
        (14, "recvmsg:Connection reset by peer", {}, Kind.BROKEN, "no_answer"),
        (14, "handshake: CERTIFICATE_VERIFY_FAILED", {}, Kind.SPOILT, "no_answer"),
        (14, "draining", {"x-request-id": "r"}, Kind.UNREADY, "not_ready"),
        (4, "Deadline Exceeded", {}, Kind.SILENT, "deadline_exceeded"),
        (4, "late", {"x-request-id": "r"}, Kind.ANSWERED, "deadline_exceeded"),
        (8, "too much", {}, Kind.SHED, "overloaded"),
        (5, "no such model", {}, Kind.ANSWERED, "not_found"),
        (12, "no such method", {}, Kind.ANSWERED, "invalid_input"),
        (2, "who knows", {}, Kind.ANSWERED, "no_answer"),
        (3, "bad", {"grpc-status-details-bin": b"\xff"}, Kind.ANSWERED, "invalid_input"),
        (3, "bad", {"grpc-status-details-bin": b""}, Kind.ANSWERED, "invalid_input"),
    ],
)
def test_statuses_of_grpcio_and_of_other_servers(
    code: int, words: str, trailers: dict[str, Any], kind: Kind, slug: str
) -> None:
    outcome = outcome_of(code, words, trailers.items(), URL)
    assert outcome.error is not None
    assert (outcome.kind, outcome.error.code) == (kind, slug)


def metadata(**properties: str) -> Reply:
    told = messages.message("inference.ModelMetadataResponse")(
        name="m", versions=["2", "1"], properties=properties
    )
    told.inputs.add(name="x", datatype="FP64", shape=[-1, 3])
    told.inputs.add(name="n", datatype="INT64", shape=[-1])
    told.outputs.add(name="prediction", datatype="BYTES", shape=[-1])
    return Reply(told.SerializeToString())


def test_what_the_protocol_does_not_tell_is_left_to_the_server() -> None:
    described = RpcLanguage().description(metadata(), "m", None)
    signature = described.signature(None)
    assert described.routed == "2"
    assert signature.inputs == (
        Field("x", Datatype.FP64, shape=(3,), nullable=True),
        Field("n", Datatype.INT64),
    )


def test_a_signature_in_the_properties_is_the_signature() -> None:
    own = Signature(
        (Field("plan", Datatype.BYTES, categories=("a", "b"), closed=True),),
        (Field("prediction", Datatype.FP64),),
    )
    reply = metadata(**{SIGNATURE: json.dumps(own.describe())})
    assert RpcLanguage().description(reply, "m", "1").signature("1") == own


def test_what_is_no_message_of_ours_is_told() -> None:
    with pytest.raises(ValueError, match="no ModelMetadataResponse"):
        RpcLanguage().description(Reply(b"\xff\xff"), "m", None)
    described = RpcLanguage().description(metadata(), "m", None)
    asked = RpcLanguage().describe("m", None)
    with pytest.raises(ValueError, match="no ModelInferResponse"):
        RpcLanguage().answer(Reply(b"\xff\xff"), asked, described)
