"""What was said in an earlier version means the same in this one, and the other way round."""

import base64
import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor

from streamtrans.v1 import streamtrans_pb2 as pb

FROZEN = sorted(path for path in (Path(__file__).parents[1] / "data" / "wire").iterdir() if path.is_dir())
PACKAGE = "streamtrans.v1."


@pytest.fixture(params=FROZEN, ids=lambda path: path.name)
def frozen(request):
    """The file of then in a pool of its own, and where the rest lies."""
    files = descriptor_pb2.FileDescriptorSet.FromString((request.param / "descriptor.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool.FindFileByName("streamtrans/v1/streamtrans.proto"), request.param


def meaning(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def shape(field):
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof
    return field.name, field.type, field.is_repeated, kind and kind.full_name, oneof and oneof.name, field.has_presence


def filled(cls):
    """Return messages of ``cls`` in which every field is set, one for each choice of a oneof."""
    descriptor = cls.DESCRIPTOR
    choices = [field.name for oneof in descriptor.oneofs if len(oneof.fields) > 1 for field in oneof.fields]
    for choice in choices or [None]:
        message = cls()
        for field in descriptor.fields:
            oneof = field.containing_oneof
            if oneof is None or len(oneof.fields) == 1 or field.name == choice:
                fill(message, field)
        yield message


def fill(message, field):
    values = {
        FieldDescriptor.CPPTYPE_STRING: b"\x01" if field.type == FieldDescriptor.TYPE_BYTES else "ü",
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_DOUBLE: field.number + 0.5,
        FieldDescriptor.CPPTYPE_FLOAT: field.number + 0.5,
    }
    if field.message_type is not None:
        value = next(filled(message_factory.GetMessageClass(field.message_type)))
    elif field.enum_type is not None:
        value = field.enum_type.values[1].number
    else:
        value = values.get(field.cpp_type, field.number)
    if field.is_repeated:
        getattr(message, field.name).extend([value, value])
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


def within(old, new):
    """Return whether ``new`` says all that ``old`` says; it may say more."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and within(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(within, old, new))
    return old == new


def test_no_number_name_or_type_has_changed(frozen):
    before, _ = frozen
    for name, message in before.message_types_by_name.items():
        now = pb.DESCRIPTOR.message_types_by_name[name]
        for field in message.fields:
            assert shape(now.fields_by_number[field.number]) == shape(field), f"{name}.{field.name}"
    for name, enum in before.enum_types_by_name.items():
        now = pb.DESCRIPTOR.enum_types_by_name[name]
        for value in enum.values:
            assert now.values_by_number[value.number].name == value.name
    for name, service in before.services_by_name.items():
        for method in service.methods:
            now = pb.DESCRIPTOR.services_by_name[name].methods_by_name[method.name]
            for side in ("input_type", "output_type"):
                assert getattr(now, side).full_name == getattr(method, side).full_name
            assert (now.client_streaming, now.server_streaming) == (method.client_streaming, method.server_streaming)


def test_old_bytes_mean_what_they_meant(frozen):
    _, folder = frozen
    kept = json.loads((folder / "messages.json").read_text(encoding="utf-8"))
    assert len(kept) > 30
    for said in kept:
        cls = message_factory.GetMessageClass(pb.DESCRIPTOR.message_types_by_name[said["type"]])
        data = base64.b64decode(said["bytes"])
        message = cls.FromString(data)
        assert meaning(message) == said["fields"]
        assert message.SerializeToString(deterministic=True) == data


def test_new_messages_are_understood_by_old_stubs_as_far_as_they_know(frozen):
    before, _ = frozen
    checked = 0
    for name, old in before.message_types_by_name.items():
        old_cls = message_factory.GetMessageClass(old)
        for message in filled(message_factory.GetMessageClass(pb.DESCRIPTOR.message_types_by_name[name])):
            understood = meaning(old_cls.FromString(message.SerializeToString()))
            assert within(understood, meaning(message)), name
            known = [field.name for field in old.fields if field.name in meaning(message)]
            assert all(field in understood for field in known)
            checked += 1
    assert checked > 30
