"""What the WebGPU target computes in: the name of a scheme goes in, a dtype comes out. Importing this costs nothing."""

SUMMARY = "browsers with WebGPU, and Node; q4f16_1 and q0f16 need 16-bit floats, q4f32_1 and q0f32 run everywhere"
DTYPES = {"q4f16_1": "float16", "q0f16": "float16", "q4f32_1": "float32", "q0f32": "float32"}
