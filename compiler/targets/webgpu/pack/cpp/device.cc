// TVM's WebGPU device, which forwards every call to JavaScript.
#include "web/emcc/webgpu_runtime.cc"
