"""What the WebGPU target has kernels for, and how large a tensor they can read."""

DTYPES = {"q4f16_1": "float16", "q0f16": "float16", "q4f32_1": "float32", "q0f32": "float32"}
"""Scheme -> the dtype that it is computed and cached in."""

HALVES = tuple(scheme for scheme, dtype in DTYPES.items() if dtype == "float16")
"""The schemes that an adapter without 16-bit floats cannot compute in."""

# Bytes of one tensor that a shader can read: what the standard promises, and the most that runtimes request.
PROMISED_BINDING = 128 << 20
LARGEST_BINDING = 1 << 30
