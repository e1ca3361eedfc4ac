"""Measure a GGUF file's tensors, or copy the file with every matrix in one type.

python -m argosy.bench.gguf_file weigh FILE                 bytes of its tensors
python -m argosy.bench.gguf_file requantize FILE TYPE NEW   the same model with Q4_0, Q8_0, F16 or F32 matrices

The copy keeps names, metadata and the order of rows, so llama.cpp reads it like the original. It serves to compare
speeds at equal bits; its quality is lower, because quantized matrices are rounded a second time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}


def weigh(path: Path) -> int:
    """Return the size of all tensors in bytes."""
    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)


def requantize(path: Path, kind: str, new: Path) -> int:
    """Copy `path` to `new` with all matrices, embedding and head too, as `kind`; return the bytes of all tensors."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(new, _metadata(reader, gguf.Keys.General.ARCHITECTURE))
    _copy_metadata(reader, writer)
    writer.add_file_type(FILE_TYPES[kind])
    for tensor in reader.tensors:
        data, data_type = _as(tensor, gguf.GGMLQuantizationType[kind])
        writer.add_tensor(tensor.name, data, raw_dtype=data_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weigh(new)


def _metadata(reader: gguf.GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    assert field is not None, key
    return str(field.contents())


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    written_anyway = (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE)
    for field in reader.fields.values():
        if field.name in written_anyway or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)


def _as(tensor: gguf.ReaderTensor, kind: gguf.GGMLQuantizationType) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """Convert a matrix to `kind`, or to F16 if its rows do not fill blocks; leave a vector as it is."""
    if len(tensor.shape) < 2:
        return tensor.data, tensor.tensor_type
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if values.shape[-1] % block:
        kind = gguf.GGMLQuantizationType.F16
    return gguf.quants.quantize(values, kind), kind


def main() -> None:
    """Run the command line; print one JSON object."""
    match sys.argv[1:]:
        case ["weigh", path]:
            weight = weigh(Path(path))
        case ["requantize", path, kind, new] if kind in FILE_TYPES:
            weight = requantize(Path(path), kind, Path(new))
        case _:
            sys.exit(__doc__)
    print(json.dumps({"weights_bytes": weight}))


if __name__ == "__main__":
    main()
