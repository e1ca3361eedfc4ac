"""Change sound inputs into ones that are nearly sound: bytes, JSON documents, safetensors headers, GGUF files."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Sequence
from dataclasses import replace

from zoo.file_bytes import ARRAY, CODES, STRING, Gguf, array, typed

LENGTHS = (0, 1, 2, 3, 7, 8, 16, 31, 32, 33, 127, 255, 256, 1000, 4096, 65535, 65536)
NUMBERS = (*LENGTHS, -1, -2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)
FLOATS = (0.5, -0.0, 1.0, 1e-45, 1e-300, 1e38, 1e308, -1.5, 3.0)
TEXTS = (
    "", "a", " ", "\n", "\x1b[31m", "\u202e", "`", "\0", "../x", "/etc/passwd", "a" * 300, "\U0001f600", "0", "-1",
    "llama", "gpt2", "yarn", "linear", "llama3", "longrope", "dynamic", "sliding_attention", "full_attention",
    "silu", "F32", "BF16", "F64", "BOOL", "I8", "raw", "raw-shard", "float16", "uint32", "model.safetensors",
    "weight", "config.json", "ByteLevel", "BPE", "Sequence",
)  # fmt: skip


class Raw(str):
    """Text that stands in a JSON document as it is."""


RAWS = tuple(map(Raw, ("NaN", "-Infinity", "1e999", "01", "9" * 5000, "1e-999", '"\\ud800"', "tru", "", "[" * 200)))


def changed_bytes(data: bytes, random: random.Random, front: int = 400) -> bytes:
    """Set, flip, insert, delete, copy or cut a few bytes, most of them among the first `front`."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            break
        place = random.randrange(min(front, len(out)) if random.random() < 0.7 else len(out))
        match random.randrange(9):
            case 0 | 1:
                out[place] = random.randrange(256)
            case 2:
                out[place] ^= 1 << random.randrange(8)
            case 3:
                out[place:place] = random.randbytes(random.choice((1, 2, 4, 8, 9)))
            case 4:
                del out[place : place + random.choice((1, 2, 4, 8, 30))]
            case 5:
                out[place : place + 8] = struct.pack("<Q", random.choice(NUMBERS) & (2**64 - 1))
            case 6:
                out[place : place + 4] = struct.pack("<I", random.choice(NUMBERS) & (2**32 - 1))
            case 7:
                start = random.randrange(len(out))
                out[place:place] = out[start : start + random.choice((1, 4, 16, 60))]
            case 8:
                if random.random() < 0.3:
                    del out[place:]
    return bytes(out)


def changed_json(data: bytes, random: random.Random) -> bytes:
    """Change a JSON document: its values, keys and structure, or its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return changed_bytes(data, random, len(data))
    if random.random() < 0.15:
        return changed_bytes(data, random, len(data))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        value = _changed_value(value, random)
    return written(value, random).encode("utf-8", "surrogatepass")


def _changed_value(root: object, random: random.Random) -> object:
    """Change one place of a JSON value, which is not modified itself."""
    root = copy.deepcopy(root)
    places = [(root, key) for key in _keys(root)]
    for parent, key in places:
        if len(places) > 5000:
            break
        child = parent[key]
        places += [(child, inner) for inner in _keys(child)]
    if not places or random.random() < 0.02:
        return any_value(random)
    parent, key = random.choice(places)
    match random.randrange(8):
        case 0 | 1 | 2:
            parent[key] = any_value(random)
        case 3:
            parent[key] = _near(parent[key], random)
        case 4:
            del parent[key]
        case 5:
            other, place = random.choice(places)
            if not isinstance(other[place], dict | list) or random.random() < 0.3:
                parent[key] = copy.deepcopy(other[place])
        case 6:
            _add(parent, random, places)
        case 7:
            if isinstance(parent, dict):
                parent[random.choice((*TEXTS, *(str(k) for _, k in places[:50])))] = parent.pop(key)
            else:
                random.shuffle(parent)
    return root


def _keys(value: object) -> list:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def _add(parent: object, random: random.Random, places: Sequence) -> None:
    if isinstance(parent, dict):
        parent[random.choice(TEXTS)] = any_value(random)
    elif isinstance(parent, list):
        parent.insert(random.randrange(len(parent) + 1), any_value(random))


def _near(value: object, random: random.Random) -> object:
    """Return a value like `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice(
            (value + 1, value - 1, -value, value * 2, value * 64, value // 2, float(value), str(value))
        )
    if isinstance(value, float):
        return random.choice((value * 2, -value, value * 1e10, value / 1e10, int(value) if abs(value) < 1e18 else 0))
    if isinstance(value, str):
        cut = random.randrange(len(value) + 1)
        return value[:cut] + random.choice(TEXTS) + value[random.randrange(cut, len(value) + 1) :]
    if isinstance(value, list):
        return random.choice((value * 2, value[:-1], value[::-1], [value], {"a": value}))
    if isinstance(value, dict):
        return random.choice(({**value, "x": 1}, dict(list(value.items())[:-1]), [value], list(value)))
    return any_value(random)


def any_value(random: random.Random) -> object:
    """Return a JSON value of any kind."""
    match random.randrange(9):
        case 0 | 1 | 2:
            return random.choice(NUMBERS)
        case 3:
            return random.choice(FLOATS)
        case 4 | 5:
            return random.choice(TEXTS)
        case 6:
            return random.choice((True, False, None, [], {}, [[]], {"": None}))
        case 7:
            return random.choice(RAWS)
    return [random.choice(NUMBERS) for _ in range(random.randrange(4))]


def written(value: object, random: random.Random | None = None) -> str:
    """Write JSON; `Raw` texts as they are, and with `random` now and then a member twice."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        members = [f"{json.dumps(str(key))}: {written(item, random)}" for key, item in value.items()]
        if random is not None and members and random.random() < 0.003:
            members.append(random.choice(members))
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(item, random) for item in value) + "]"
    return json.dumps(value, ensure_ascii=random is None or random.random() < 0.8)


def changed_safetensors(data: bytes, random: random.Random) -> bytes:
    """Change a safetensors file, most often the JSON of its header, with the length kept right."""
    if len(data) < 8 or random.random() < 0.2:
        return changed_bytes(data, random)
    length = int.from_bytes(data[:8], "little")
    header = changed_json(data[8 : 8 + length], random)
    rest = data[8 + length :]
    if random.random() < 0.15:
        rest = rest[: random.randrange(len(rest) + 1)] if random.random() < 0.5 else rest + b"\0" * random.randrange(64)
    count = len(header) if random.random() < 0.95 else random.choice(NUMBERS) & (2**64 - 1)
    return struct.pack("<Q", count) + header + rest


def changed_gguf(file: Gguf, random: random.Random) -> Gguf:
    """Change the metadata or the tensors of a GGUF file."""
    for _ in range(random.choice((1, 1, 2, 3))):
        file = _changed_gguf(file, random)
    return file


def _changed_gguf(file: Gguf, random: random.Random) -> Gguf:
    values, tensors = list(file.values), list(file.tensors)
    match random.randrange(11):
        case 0 | 1 | 2 if values:
            i = random.randrange(len(values))
            values[i] = (values[i][0], _any_typed(random))
        case 3 if values:
            i = random.randrange(len(values))
            values[i] = (values[i][0], changed_bytes(values[i][1], random, 24))
        case 4 if values:
            del values[random.randrange(len(values))]
        case 5:
            key = random.choice([key for key, _ in values] or ["general.architecture"])
            front = key.partition(".")[0] if isinstance(key, str) else "llama"
            values.append((random.choice((key, f"{front}.{random.choice(GGUF_KEYS)}")), _any_typed(random)))
        case 6 if tensors:
            i = random.randrange(len(tensors))
            dims = tuple(random.choice((*tensors[i].dims, 1, 0, 32, 2**32, 2**63)) for _ in range(random.randrange(6)))
            tensors[i] = replace(tensors[i], dims=dims, rank=random.choice((None, None, len(dims), 5, 2**31)))
        case 7 if tensors:
            i = random.randrange(len(tensors))
            tensors[i] = replace(tensors[i], kind=random.choice((*range(42), 2**31, 2**32 - 1)))
        case 8 if tensors:
            i = random.randrange(len(tensors))
            tensors[i] = replace(tensors[i], offset=random.choice((0, 1, 31, 32, 64, 2**31, 2**63, 2**64 - 32)))
        case 9 if tensors:
            other = random.choice(tensors)
            tensors.append(
                replace(other, name=random.choice((other.name, "output.weight", "rope_freqs.weight", "\x1b")))
            )
        case 10:
            number = random.choice(NUMBERS) & (2**64 - 1)
            part = random.choice(("tensor_count", "value_count", "alignment", "version"))
            if part == "alignment":
                return file.set("general.alignment", typed(4, number & (2**32 - 1)))
            return replace(file, **{part: number if part != "version" else number & (2**32 - 1)})
    return replace(file, values=tuple(values), tensors=tuple(tensors))


GGUF_KEYS = (
    "attention.sliding_window", "rope.scaling.factor", "rope.scaling.type", "rope.freq_base", "rope.dimension_count",
    "attention.key_length", "context_length", "block_count", "expert_count", "pooling_type", "vocab_size",
    "attention.head_count_kv", "rope.scaling.original_context_length", "logit_scale", "attention.head_count",
)  # fmt: skip


def _any_typed(random: random.Random) -> bytes:
    """Return a GGUF value of any type, with its type."""
    kind = random.choice((*CODES, STRING, ARRAY))
    if kind != ARRAY:
        return typed(kind, _any_of(kind, random))
    item = random.choice((*CODES, STRING))
    values = [_any_of(item, random) for _ in range(random.randrange(5))]
    return array(item, values, random.choice((None, None, None, len(values) + 1, 2**40, 2**64 - 1)))


def _any_of(kind: int, random: random.Random) -> object:
    if kind == STRING:
        return random.choice(TEXTS)
    code = CODES[kind]
    if code == "?":
        return random.random() < 0.5
    if code in "fd":
        value = random.choice((*FLOATS, 0.0, 1e5, float("nan"), float("inf")))
        return 0.0 if code == "f" and 1e38 < abs(value) < float("inf") else value
    bits = 8 * struct.calcsize(code)
    number = random.choice(NUMBERS) & ((1 << bits) - 1)
    return number - (1 << bits) if code.islower() and number >= 1 << (bits - 1) else number
