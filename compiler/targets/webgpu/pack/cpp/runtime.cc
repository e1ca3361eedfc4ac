// The runtime as TVM compiles it for the web: tensors, the virtual machine, the paged KV cache. Sources that need a
// network, files or their tests are replaced by empty ones, see OMITTED in sources.py.
#include "web/emcc/wasm_runtime.cc"
