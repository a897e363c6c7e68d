"""Reads and writes .safetensors files with the standard library only."""

import json
import struct

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "I32": 4, "I64": 8}


def read(path):
    """{name: (dtype, shape, bytes)}"""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"],
                   data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]])
            for name, entry in header.items()}


def write(path, tensors):
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def numbers(tensor):
    """The values of one tensor as a list of floats or integers."""
    dtype, _, data = tensor
    count = len(data) // SIZES[dtype]
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + data[2 * i:2 * i + 2])[0] for i in range(count)]
    return list(struct.unpack(f"<{count}{ {'F64': 'd', 'F32': 'f', 'I32': 'i', 'I64': 'q'}[dtype]}", data))


def floats(values, shape):
    return "F32", shape, struct.pack(f"<{len(values)}f", *values)
