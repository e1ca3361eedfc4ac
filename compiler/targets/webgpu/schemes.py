"""What the WebGPU target has kernels for, and how large a tensor they can read."""

DTYPES = {"q4f16_1": "float16", "q0f16": "float16", "q4f32_1": "float32", "q0f32": "float32"}
"""Scheme -> the dtype that it is computed and cached in."""

# Bytes of one tensor that a shader can read: what the standard promises, and the most that runtimes request.
PROMISED_BINDING = 128 << 20
LARGEST_BINDING = 1 << 30
