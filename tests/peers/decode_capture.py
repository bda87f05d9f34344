#!/usr/bin/python3
"""Decodes a capture of the central protocol with another implementation than farmhand's.

The capture is one file of raw frames: a length of 4 bytes (big-endian, signed), then a serialised TransportMessage. The
descriptors are made by protoc from proto/*.proto, the decoding is done by Python's protobuf, and the Content of each
message is decoded as what its type URL names.

    decode_capture.py FILE

Exit 0 and the number of frames when all of them decode; exit 1 and the number of the first frame that does not, or 0 frames.
Needs protoc and google.protobuf (Debian: protobuf-compiler, python3-protobuf).
"""

import pathlib
import struct
import subprocess
import sys
import tempfile

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message, message_factory

PACKAGE = "Jubo.JuLiao.IM.Wx.Proto"
PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


class BadFrame(Exception):
    """Why a frame cannot be decoded."""


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: decode_capture.py FILE")
    capture = pathlib.Path(sys.argv[1]).read_bytes()
    pool = descriptors()
    transport = message_class(pool, f"{PACKAGE}.TransportMessage")
    offset = count = 0
    while offset < len(capture):
        count += 1
        try:
            payload, offset = next_frame(capture, offset)
            decode(pool, transport, payload)
        except BadFrame as why:
            print(f"frame {count}: {why}", file=sys.stderr)
            return 1
    print(f"{count} frames decoded")
    return 0 if count else 1


def descriptors():
    """A pool of everything in proto/, as protoc understands it."""
    with tempfile.TemporaryDirectory() as folder:
        known, out = pathlib.Path(folder) / "known.bin", pathlib.Path(folder) / "proto.bin"
        known.write_bytes(well_known())
        files = sorted(path.name for path in PROTO.glob("*.proto"))
        command = ["protoc", f"--proto_path={PROTO}", f"--descriptor_set_in={known}", f"--descriptor_set_out={out}"]
        subprocess.run([*command, "--include_imports", *files], check=True, cwd=PROTO)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return pool


def well_known():
    """google.protobuf.Any, which Debian's protoc finds only where libprotobuf-dev is installed."""
    known = descriptor_pb2.FileDescriptorSet()
    any_pb2.DESCRIPTOR.CopyToProto(known.file.add())
    return known.SerializeToString()


def message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def next_frame(capture, offset):
    """The payload of the frame at `offset`, and where the next one begins."""
    if len(capture) - offset < 4:
        raise BadFrame("the capture ends inside a length")
    (length,) = struct.unpack_from(">i", capture, offset)
    if length <= 0:
        raise BadFrame(f"its length is {length}")
    end = offset + 4 + length
    if end > len(capture):
        raise BadFrame(f"its length is {length}, and {len(capture) - offset - 4} bytes are left")
    return capture[offset + 4 : end], end


def decode(pool, transport, payload):
    envelope = parse(transport, payload, "TransportMessage")
    if not envelope.HasField("Content"):
        return
    url = envelope.Content.type_url
    name = url.rsplit("/", 1)[-1]
    if not name:
        raise BadFrame(f"MsgType {envelope.MsgType}: Content has no type URL")
    try:
        body = message_class(pool, name)
    except KeyError:
        raise BadFrame(f"MsgType {envelope.MsgType}: nothing in proto/ is called {name}") from None
    parse(body, envelope.Content.value, name)


def parse(cls, payload, name):
    try:
        return cls.FromString(payload)
    except message.DecodeError as why:
        raise BadFrame(f"it is no {name}: {why}") from None


if __name__ == "__main__":
    sys.exit(main())
