// The parts of a WASI host that the JavaScript runtime offers to the C library: a clock, and lines for the console.
#include <cstddef>
#include <cstdint>

namespace {

constexpr int32_t kBadFile = 8;
constexpr int32_t kNotSupported = 58;
constexpr int32_t kNotSeekable = 70;

__attribute__((import_module("env"), import_name("emscripten_notify_memory_growth")))
void NotifyMemoryGrowth(int memory);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("clock_time_get")))
int32_t ClockTimeGet(int32_t clock, int64_t precision, int32_t time);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write")))
int32_t FileWrite(int32_t file, int32_t pieces, int32_t count, int32_t written);

// Growing memory detaches JavaScript's views of it. Notify JavaScript before it uses them again.
void RefreshViews() {
  static size_t seen = 0;
  size_t pages = __builtin_wasm_memory_size(0);
  if (pages != seen) {
    seen = pages;
    NotifyMemoryGrowth(0);
  }
}

}  // namespace

#define WASI(name) __imported_wasi_snapshot_preview1_##name

extern "C" {

int32_t WASI(clock_time_get)(int32_t clock, int64_t precision, int32_t time) {
  RefreshViews();
  return ClockTimeGet(clock, precision, time);
}

int32_t WASI(fd_write)(int32_t file, int32_t pieces, int32_t count, int32_t written) {
  RefreshViews();
  return FileWrite(file, pieces, count, written);
}

// No files, no environment.
int32_t WASI(fd_read)(int32_t, int32_t, int32_t, int32_t) { return kBadFile; }
int32_t WASI(fd_seek)(int32_t, int64_t, int32_t, int32_t) { return kNotSeekable; }
int32_t WASI(fd_fdstat_get)(int32_t, int32_t) { return kNotSupported; }
int32_t WASI(environ_get)(int32_t, int32_t) { return 0; }
int32_t WASI(environ_sizes_get)(int32_t count, int32_t size) {
  *reinterpret_cast<size_t*>(count) = 0;
  *reinterpret_cast<size_t*>(size) = 0;
  return 0;
}

// The only thread lives until the page is closed, and so do its objects.
int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }

}  // extern "C"

// The tag of C++ exceptions, whose value is a pointer to the exception.
__asm__(
    ".globl __cpp_exception\n"
    ".tagtype __cpp_exception i32\n"
    "__cpp_exception:\n");
