"""The WebGPU target: browsers, and whatever else runs WGSL and WebAssembly."""
