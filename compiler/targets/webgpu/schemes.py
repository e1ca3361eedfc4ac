"""The quantization schemes that the WebGPU target has kernels for."""

DTYPES = {"q4f16_1": "float16", "q0f16": "float16", "q4f32_1": "float32", "q0f32": "float32"}
"""Scheme -> the dtype that it is computed and cached in."""
