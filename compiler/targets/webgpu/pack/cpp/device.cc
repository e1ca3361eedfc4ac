// The WebGPU device as TVM compiles it: every call goes to JavaScript.
#include "web/emcc/webgpu_runtime.cc"
