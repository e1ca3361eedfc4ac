// Where WASI's C library needs more of its host than the JavaScript runtime has.
#include <cerrno>
#include <cstddef>
#include <cstdint>

extern "C" {

constexpr intptr_t kPage = 65536;

__attribute__((import_module("env"), import_name("emscripten_notify_memory_growth")))
void NotifyMemoryGrowth(int memory);

// Growing memory detaches the views that JavaScript has of it, so JavaScript is told.
void* sbrk(intptr_t increment) {
  if (increment == 0) return reinterpret_cast<void*>(__builtin_wasm_memory_size(0) * kPage);
  size_t before = __builtin_wasm_memory_grow(0, (increment + kPage - 1) / kPage);
  if (increment < 0 || before == SIZE_MAX) {
    errno = ENOMEM;
    return reinterpret_cast<void*>(-1);
  }
  NotifyMemoryGrowth(0);
  return reinterpret_cast<void*>(before * kPage);
}

// Standard output asks whether it is a terminal. "Not supported" is an answer.
int32_t __imported_wasi_snapshot_preview1_fd_fdstat_get(int32_t, int32_t) { return 58; }

// Objects of the one thread live until the page is closed.
int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }

}  // extern "C"

// The tag that C++ exceptions are thrown with: a pointer to the exception.
__asm__(
    ".globl __cpp_exception\n"
    ".tagtype __cpp_exception i32\n"
    "__cpp_exception:\n");
