"""What the WebGPU target can do, for those who ask before they load a compiler. Importing this costs nothing."""

SUMMARY = "browsers with WebGPU, and Node; q4f16_1 and q0f16 need 16-bit floats, q4f32_1 and q0f32 run everywhere"
# scheme -> what it computes in
DTYPES = {"q4f16_1": "float16", "q0f16": "float16", "q4f32_1": "float32", "q0f32": "float32"}

# Bytes of one tensor that a shader can read: what the standard promises, and what runtimes ask for at most.
PROMISED_BINDING = 128 << 20
LARGEST_BINDING = 1 << 30
