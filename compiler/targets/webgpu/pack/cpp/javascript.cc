// Functions for JavaScript beside the runtime's C API: memory for arguments, callbacks as functions, the last error.
#include <tvm/ffi/c_api.h>
#include <tvm/ffi/error.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#define FROM_JAVASCRIPT(name) __attribute__((import_module("env"), import_name(#name)))

extern "C" {

FROM_JAVASCRIPT(TVMFFIWasmSafeCall)
int TVMFFIWasmSafeCall(void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result);
FROM_JAVASCRIPT(TVMFFIWasmFunctionDeleter)
void TVMFFIWasmFunctionDeleter(void* self);

// Allocates `size` bytes, aligned for every type. Aborts when out of memory: the caller does not check the result.
void* TVMWasmAllocSpace(int size) {
  void* data = std::malloc(size);
  if (data == nullptr && size != 0) {
    std::fprintf(stderr, "out of memory: %d bytes for an argument do not fit\n", size);
    std::abort();
  }
  return data;
}

void TVMWasmFreeSpace(void* data) { std::free(data); }

// Makes a function that calls the JavaScript callback with the index `self`. Returns 0 on success.
int TVMFFIWasmFunctionCreate(void* self, TVMFFIObjectHandle* out) {
  return TVMFFIFunctionCreate(self, TVMFFIWasmSafeCall, TVMFFIWasmFunctionDeleter, out);
}

// Returns "Kind: message" of the error that the last call failed with, valid until the next call.
const char* TVMFFIWasmGetLastError() {
  static std::string text;
  tvm::ffi::Error error = tvm::ffi::details::MoveFromSafeCallRaised();
  text = error.kind() + ": " + error.message();
  return text.c_str();
}

}  // extern "C"
