"""WebGPU: browsers, and whatever else runs WGSL and WebAssembly."""
