"""The messages are those of the published files, and have the numbers other clients know."""

import subprocess
import sys
from pathlib import Path

import pytest

import foretell.codecs
from foretell.codecs import messages

PROTOS = Path(foretell.codecs.__file__).parent / "protos"


def test_the_descriptors_are_made_of_the_files(tmp_path: Path) -> None:
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    made = tmp_path / "descriptors.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTOS), "--include_imports"]
    subprocess.run([*command, "--descriptor_set_out", str(made), *files], check=True)
    assert made.read_bytes() == (PROTOS / "descriptors.binpb").read_bytes(), "run: make protos"


NUMBERS = """
import sys
from tritonclient.grpc import service_pb2, model_config_pb2  # its names are in the default pool
from foretell.codecs import messages

def fields(descriptor):
    return {(f.name, f.number, f.type, f.is_repeated) for f in descriptor.fields}

def check(ours, theirs):
    unknown = fields(ours) - fields(theirs)
    assert not unknown - ALLOWED, (ours.full_name, unknown)
    for inner in ours.nested_types:
        if inner.name != "PropertiesEntry":  # of the protocol, not of Triton's
            check(inner, theirs.nested_types_by_name[inner.name])

ALLOWED = {field for field in fields(messages.message("inference.ModelMetadataResponse").DESCRIPTOR)
           if field[0] == "properties"}
seen = 0
for name in ("inference.proto", "model_config.proto"):
    for ours in messages.file_named(name).message_types_by_name.values():
        module = service_pb2 if hasattr(service_pb2, ours.name) else model_config_pb2
        check(ours, getattr(module, ours.name).DESCRIPTOR)
        seen += 1
types = messages.file_named("model_config.proto").enum_types_by_name["DataType"].values
assert len(types) == 15
for value in types:
    assert model_config_pb2.DataType.Value(value.name) == value.number
print(seen)
"""


@pytest.mark.slow
def test_the_inference_messages_have_tritons_numbers_and_live_beside_its() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NUMBERS], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 30


def test_an_unknown_message_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        messages.message("inference.Nothing")
