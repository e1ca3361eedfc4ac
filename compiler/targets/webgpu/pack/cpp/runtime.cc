// TVM's runtime for the web: tensors, the virtual machine, the paged KV cache. Sources that need a network or files are
// replaced by empty ones, and so are tests: see OMITTED in sources.py.
#include "web/emcc/wasm_runtime.cc"
