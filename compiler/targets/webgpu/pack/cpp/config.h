// Included before every source of the runtime: settings for a single-threaded WebAssembly module in a browser.
#ifndef ARGOSY_WEBGPU_CONFIG_H_
#define ARGOSY_WEBGPU_CONFIG_H_

#define TVM_FFI_USE_LIBBACKTRACE 0
#define TVM_LOG_CUSTOMIZE 1
#ifdef __wasi__
#define TVM_FFI_CMAKE_LITTLE_ENDIAN 1

// The C++ library for WASI has no threads, hence no locks. A single thread needs none.
#include <chrono>
#include <mutex>
#include <thread>

namespace std {

struct mutex {
  void lock() {}
  void unlock() {}
  bool try_lock() { return true; }
};
using recursive_mutex = mutex;

template <typename... Mutexes>
struct scoped_lock {
  explicit scoped_lock(Mutexes&...) {}
};

namespace this_thread {
template <typename Rep, typename Period>
void sleep_for(const chrono::duration<Rep, Period>&) {}
}  // namespace this_thread

}  // namespace std
#endif  // __wasi__

// Let the compiler decide what to inline: the module is downloaded first, and little of its code is hot.
#include <tvm/ffi/base_details.h>

#undef TVM_FFI_INLINE
#define TVM_FFI_INLINE inline

// An error carries its kind and message to JavaScript. The runtime's own macro would also print them, and would put the
// name of every source file and the signature of every function into the module.
#include <tvm/ffi/error.h>

#undef TVM_FFI_THROW
#undef TVM_FFI_LOG_AND_THROW
#define TVM_FFI_THROW(Kind) ::tvm::ffi::details::ErrorBuilder(#Kind, std::string(), false).stream()
#define TVM_FFI_LOG_AND_THROW(Kind) TVM_FFI_THROW(Kind)

#endif  // ARGOSY_WEBGPU_CONFIG_H_
