"""Hostile files that are no PyTorch archives: for each its bytes and the sentence that refuses it."""

import struct
import zipfile

from checkpoint_files import gguf_bytes, gguf_string, npy_bytes, safetensors_bytes, zip_bytes


def one(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def two(first: tuple[int, int], second: tuple[int, int]) -> dict[str, object]:
    return {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in (("a", first), ("b", second))
    }


def entry_text(text: str) -> bytes:
    return b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]' + text.encode()


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "one byte": (b"1", "has 1 byte; "),
    "seven bytes": (b"1234567", "has 7 bytes; .* 8 bytes of header length"),
    "length beyond the format": (safetensors_bytes({}, length=100_000_001), "claims a header of 100000001 bytes"),
    "length beyond the file": (safetensors_bytes({}, length=3), "claims a header of 3 bytes; the file has 2"),
    "largest length": (safetensors_bytes({}, length=2**64 - 1), "claims a header of 18446744073709551615 bytes"),
    "no JSON": (safetensors_bytes(b"hello"), "wrong at byte 8: '{' was expected"),
    "no object": (safetensors_bytes([1, 2]), "wrong at byte 8: '{' was expected"),
    "cut JSON": (safetensors_bytes(b'{"w":'), "wrong at byte 13: an object without inner objects"),
    "no closing brace": (safetensors_bytes(entry_text("}"), bytes(8)), "',' or '}' was expected"),
    "trailing comma": (safetensors_bytes(entry_text("},}"), bytes(8)), "a name and a colon were expected"),
    "text after the object": (safetensors_bytes(entry_text("}}x"), bytes(8)), "text follows the object"),
    "not UTF-8": (safetensors_bytes(b'{"\xff":1}'), "wrong at byte 10: not UTF-8"),
    "half a character": (safetensors_bytes(b'{"w":1}\xc3'), "not UTF-8"),
    "half a surrogate": (safetensors_bytes(rb'{"\ud800":{}}'), "a name is not valid Unicode"),
    "control character": (safetensors_bytes(b'{"a\nb":{}}'), "a name and a colon were expected"),
    "nested": (safetensors_bytes({"w": {"x": {}}}), "an object without inner objects was expected"),
    "long description": (safetensors_bytes({"w": {"x": "y" * 5000}}), "an object without inner objects"),
    "wrong description": (safetensors_bytes(b'{"w":{"dtype" "F32"}}'), "Expecting ':' delimiter"),
    "key twice": (safetensors_bytes(entry_text(',"shape":[2]}}'), bytes(8)), "a key appears twice"),
    "number of 4000 digits": (safetensors_bytes(b'{"w":{"shape":[' + b"9" * 4000 + b"]}}"), "unknown dtype None"),
    "tensor twice": (safetensors_bytes(entry_text("}," + entry_text("}}").decode()[1:]), bytes(8)), "'w' twice"),
    "metadata twice": (safetensors_bytes(b'{"__metadata__":{},"__metadata__":{}}'), "two __metadata__"),
    "metadata no text": (safetensors_bytes(b'{"__metadata__":{"a":1}}'), "a string was expected"),
    "long name": (safetensors_bytes({"n" * 5000: {}}), "a name of 5000 bytes; at most 4096"),
    "unknown dtype": (safetensors_bytes(one("F128"), bytes(8)), "'w' has the unknown dtype 'F128'"),
    "dtype no text": (safetensors_bytes(one(["F32"]), bytes(8)), "unknown dtype"),
    "no dtype": (safetensors_bytes({"w": {}}), "unknown dtype None"),
    "negative size": (safetensors_bytes(one(shape=[-2]), bytes(8)), "shape of tensor 'w' is not a list of sizes"),
    "true as a size": (safetensors_bytes(one(shape=[True, 2]), bytes(8)), "is not a list of sizes"),
    "size 2.0": (safetensors_bytes(one(shape=[2.0]), bytes(8)), "is not a list of sizes"),
    "size NaN": (safetensors_bytes(one(shape=[float("nan")]), bytes(8)), "is not a list of sizes"),
    "size 2**63": (safetensors_bytes(one(shape=[2**63, 0])), "is not a list of sizes"),
    "product beyond 64 bits": (safetensors_bytes(one(shape=[2**62, 4]), bytes(8)), r"needs \d+ bytes; .* give 8"),
    "65 dimensions": (safetensors_bytes(one(shape=[1] * 64 + [2]), bytes(8)), "65 dimensions; at most 64"),
    "one offset": (safetensors_bytes(one(offsets=[8]), bytes(8)), "data_offsets of tensor 'w' are not two"),
    "negative offset": (safetensors_bytes(one(offsets=[-8, 0]), bytes(8)), "not two non-negative integers"),
    "offsets reversed": (safetensors_bytes(one(offsets=[8, 0]), bytes(8)), "needs 8 bytes; .* give -8"),
    "too few bytes": (safetensors_bytes(one(offsets=[0, 4]), bytes(4)), "needs 8 bytes; .* give 4"),
    "half a byte": (safetensors_bytes(one("F4", [3], [0, 2]), bytes(2)), r"needs 1\.5 bytes"),
    "truncated": (safetensors_bytes(one(), bytes(7)), "ends at byte 8 of a buffer of 7 bytes"),
    "offset beyond 64 bits": (safetensors_bytes(one(offsets=[2**70, 2**70 + 8]), bytes(8)), "of a buffer of 8 bytes"),
    "overlap": (safetensors_bytes(two((0, 4), (3, 6)), bytes(6)), "'b' begins at byte 3, inside the tensor .* 4"),
    "hole": (safetensors_bytes(two((0, 2), (3, 6)), bytes(6)), "bytes 2 to 3 before tensor 'b'"),
    "hole at the beginning": (safetensors_bytes(one(offsets=[1, 9]), bytes(9)), "bytes 0 to 1 before tensor 'w'"),
    "bytes left": (safetensors_bytes(one(), bytes(9)), "end at byte 8 of a buffer of 9 bytes"),
}

NPY: dict[str, tuple[bytes, str]] = {
    "no magic": (b"hello world", "no valid npy header"),
    "cut": (npy_bytes("{'descr': '<f4'}")[:12], "no valid npy header"),
    "length beyond the file": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "no valid npy header"),
    "version 9": (npy_bytes("{}", version=(9, 0)), "no valid npy header"),
    "no dictionary": (npy_bytes("[1, 2]"), "no valid npy header"),
    "code": (npy_bytes("__import__('os')"), "no valid npy header"),
    "parentheses": (npy_bytes("(" * 9000), "no valid npy header"),
    "minus signs": (npy_bytes("-" * 9000 + "1"), "no valid npy header"),
    "long header": (npy_bytes(" " * 60_000), "no valid npy header"),
    "negative size": (npy_bytes("{'descr':'<f4','fortran_order':False,'shape':(-1,)}"), "impossible shape"),
    "true as a size": (npy_bytes("{'descr':'<f4','fortran_order':False,'shape':(True,)}"), "impossible shape"),
    "huge": (
        npy_bytes(f"{{'descr':'<f4','fortran_order':False,'shape':({2**62},{2**62})}}", bytes(4)),
        f"has 4 bytes after its header; .* needs {2**126}",
    ),
    "truncated": (
        npy_bytes("{'descr':'<f4','fortran_order':True,'shape':(2,3)}", bytes(23)),
        "has 23 bytes .* needs 24",
    ),
    "bytes left": (npy_bytes("{'descr':'<f4','fortran_order':False,'shape':()}", bytes(5)), "has 5 bytes .* needs 4"),
    "65 dimensions": (npy_bytes(f"{{'descr':'|u1','fortran_order':False,'shape':{(1,) * 65}}}", b"1"), "impossible"),
}

GOOD_NPY = npy_bytes("{'descr':'<f4','fortran_order':False,'shape':(3,)}", bytes(12))
GOOD_NPZ = zip_bytes({"a.npy": GOOD_NPY, "b.npy": GOOD_NPY})


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


NPZ: dict[str, tuple[bytes, str]] = {
    "no zip": (b"PK\x03\x04 hello", "not a readable zip archive"),
    "truncated": (GOOD_NPZ[:-30], "not a readable zip archive"),
    "no header at the offset": (patched(GOOD_NPZ, b"PK\x03\x04", b"PK\x03\x05"), "has no header at byte 0"),
    "bzip2": (zip_bytes({"a.npy": GOOD_NPY}, zipfile.ZIP_BZIP2), "unsupported compression 12"),
    "names twice": (patched(GOOD_NPZ, b"b.npy", b"a.npy"), "same name"),
    "wrong array": (zip_bytes({"a.npy": b"hello"}), "member 'a.npy' has no valid npy header"),
    "wrong compressed array": (zip_bytes({"a.npy": b"hello"}, zipfile.ZIP_DEFLATED), "no valid npy header"),
    "compressed array too long": (zip_bytes({"a.npy": GOOD_NPY + b"1"}, zipfile.ZIP_DEFLATED), "has 13 bytes"),
    "directory of 4 GB": (GOOD_NPZ[:-10] + b"\xf0\xff\xff\xff" + GOOD_NPZ[-6:], "not a readable zip archive"),
}

GGUF: dict[str, tuple[bytes, str]] = {
    "no magic": (b"GGML" + bytes(40), "does not begin with GGUF"),
    "cut": (gguf_bytes([])[:10], "its header claims 8 bytes at byte 8"),
    "version 1": (gguf_bytes([], version=1), "has version 1"),
    "big-endian": (gguf_bytes([], version=3 << 24), "has version 50331648"),
    "count of tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "lists 9223372036854775808 tensors"),
    "count of values": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "its header claims 8 bytes at byte 24"),
    "long name": (
        gguf_bytes([], values=struct.pack("<Q", 2**63), value_count=1),
        "a name of 9223372036854775808 bytes",
    ),
    "string beyond the file": (
        gguf_bytes([], values=gguf_string("k") + struct.pack("<IQ", 8, 2**60), value_count=1),
        "claims 1152921504606846976 bytes",
    ),
    "array beyond the file": (
        gguf_bytes([], values=gguf_string("k") + struct.pack("<IIQ", 9, 10, 2**60), value_count=1),
        "claims 9223372036854775808 bytes",
    ),
    "array of strings beyond the file": (
        gguf_bytes([], values=gguf_string("k") + struct.pack("<IIQ", 9, 8, 2**60), value_count=1),
        "its header claims",
    ),
    "array of arrays": (
        gguf_bytes([], values=gguf_string("k") + struct.pack("<IIQ", 9, 9, 1), value_count=1),
        "unknown type 9",
    ),
    "unknown value": (
        gguf_bytes([], values=gguf_string("k") + struct.pack("<I", 77), value_count=1),
        "unknown type 77",
    ),
    "alignment 0": (
        gguf_bytes([], values=gguf_string("general.alignment") + struct.pack("<II", 4, 0), value_count=1),
        "alignment 0, which is no power of two",
    ),
    "alignment 3": (
        gguf_bytes([], values=gguf_string("general.alignment") + struct.pack("<II", 4, 3), value_count=1),
        "alignment 3",
    ),
    "name not UTF-8": (patched(gguf_bytes([("xyz", [1], 0, 0)], bytes(4)), b"xyz", b"x\xffz"), "is not UTF-8"),
    "names twice": (gguf_bytes([("x", [1], 0, 0)] * 2, bytes(4)), "same name"),
    "five dimensions": (gguf_bytes([("x", [1] * 5, 0, 0)], bytes(4)), "5 dimensions; the format allows 4"),
    "huge": (gguf_bytes([("x", [2**63] * 4, 0, 0)], bytes(4)), "'x' ends at byte"),
    "offset beyond the file": (gguf_bytes([("x", [1], 0, 2**40)], bytes(4)), "'x' begins at byte 10995"),
    "quantised beyond the file": (gguf_bytes([("x", [32], 8, 2**40)], bytes(4)), "'x' begins at byte 10995"),
    "truncated": (gguf_bytes([("x", [2], 0, 0)], bytes(7)), r"ends at byte \d+ of a file of \d+ bytes"),
    "overlap": (gguf_bytes([("x", [8], 0, 0), ("y", [8], 0, 16)], bytes(64)), "'y' begins at byte .* inside"),
}

INDEX: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"hello", "wrong at byte 0"),
    "no map": (b"{}", "has no weight_map with tensors"),
    "empty map": (b'{"weight_map":{}}', "has no weight_map with tensors"),
    "two maps": (b'{"weight_map":{},"weight_map":{}}', "two weight_map objects"),
    "tensor twice": (b'{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}', "lists tensor 'a' twice"),
    "parent": (b'{"weight_map":{"a":"../x.safetensors"}}', "not a plain file name"),
    "absolute": (b'{"weight_map":{"a":"/etc/passwd"}}', "not a plain file name"),
    "NUL": (rb'{"weight_map":{"a":"x\u0000.safetensors"}}', "not a plain file name"),
    "itself": (b'{"weight_map":{"a":"x.index.json"}}', "which is no checkpoint file"),
    "missing shard": (b'{"weight_map":{"a":"x.safetensors"}}', "x.safetensors: no such file"),
    "missing tensor": (b'{"weight_map":{"a":"good.safetensors"}}', "'a' in 'good.safetensors', which does not hold"),
    "number as a shard": (b'{"weight_map":{"a":1}}', "a string was expected"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"}", "nested more than 32 levels deep"),
    "deep objects": (b'{"a":' + b'{"a":' * 100_000 + b"}", "nested more than 32 levels deep"),
    "large": (b"{" + b" " * (32 << 20), "has 33554433 bytes; an index of at most 33554432"),
    "no value": (b'{"a":}', "a value was expected"),
    "open list": (b'{"a":[1', "',' was expected"),
}

FILES = {".safetensors": SAFETENSORS, ".npy": NPY, ".npz": NPZ, ".gguf": GGUF, ".index.json": INDEX}
