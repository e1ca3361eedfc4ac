// Replaces the runtime's functions on files by ones that fail: a browser has no files.
#include "src/runtime/file_utils.h"

#include <tvm/ffi/error.h>

#include <string>

namespace tvm {
namespace runtime {

void LoadBinaryFromFile(const std::string& name, std::string*) {
  TVM_FFI_THROW(RuntimeError) << "`" << name << "` cannot be read: there are no files in a browser";
}

void SaveBinaryToFile(const std::string& name, const std::string&) {
  TVM_FFI_THROW(RuntimeError) << "`" << name << "` cannot be written: there are no files in a browser";
}

}  // namespace runtime
}  // namespace tvm
