// Execute commands from stdin on behalf of a Python process on another architecture. Values stay here under their names;
// `read` writes one to stdout. A command is one line, followed by raw bytes for a tensor; the reply is `ok`, the value or
// `error`.
//
//   load NAME PATH                      a shared library
//   vm NAME LIBRARY                     the virtual machine of a compiled model
//   tensor NAME DTYPE BYTES D0 D1 ...   and BYTES bytes
//   shape NAME D0 D1 ...
//   array NAME VALUE VALUE ...
//   item NAME ARRAY INDEX
//   has MODULE FUNCTION                 `yes` or `no`
//   call NAME MODULE FUNCTION VALUE ... MODULE `-`: a global function; VALUE `=5`: a number
//   read NAME                           `tensor DTYPE BYTES D0 ...` or `text BYTES` or `array LENGTH`, then the bytes
//   free NAME
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

using namespace tvm::ffi;

struct Aligned {
  void AllocData(DLTensor* tensor) { tensor->data = aligned_alloc(64, (GetDataSize(*tensor) + 63) / 64 * 64 + 64); }
  void FreeData(DLTensor* tensor) { free(tensor->data); }
};

std::map<std::string, Any> values;

std::vector<int64_t> Numbers(std::istream& line) {
  std::vector<int64_t> numbers;
  for (int64_t number; line >> number;) numbers.push_back(number);
  return numbers;
}

Any Value(const std::string& word) {
  if (word[0] == '=') return Any(static_cast<int64_t>(std::stoll(word.substr(1))));
  return values.at(word);
}

Function Find(const std::string& module, const std::string& name) {
  if (module == "-") return Function::GetGlobalRequired(name);
  Optional<Function> found = values.at(module).cast<Module>()->GetFunction(name, true);
  if (!found.has_value()) TVM_FFI_THROW(AttributeError) << "no function " << name;
  return *found;
}

Any Vm(const std::string& library) {
  Module vm = Find(library, "vm_load_executable")().cast<Module>();
  int device = kDLCPU, pooled = 2;
  (*vm->GetFunction("vm_initialization"))(device, 0, pooled);
  return vm;
}

Any ReadTensor(std::istream& line) {
  std::string dtype;
  size_t bytes;
  line >> dtype >> bytes;
  Tensor tensor = Tensor::FromNDAlloc(Aligned(), Shape(Numbers(line)), StringToDLDataType(dtype), DLDevice{kDLCPU, 0});
  TVM_FFI_ICHECK_EQ(GetDataSize(*tensor.GetDLTensorPtr()), bytes);
  std::cin.read(static_cast<char*>(tensor.data_ptr()), bytes);
  return tensor;
}

void Write(const Any& value) {
  if (auto tensor = value.as<Tensor>()) {
    size_t bytes = GetDataSize(*tensor->GetDLTensorPtr());
    std::cout << "tensor " << DLDataTypeToString(tensor->dtype()) << ' ' << bytes;
    for (int64_t extent : tensor->shape()) std::cout << ' ' << extent;
    std::cout << '\n';
    std::cout.write(static_cast<const char*>(tensor->data_ptr()), bytes);
  } else if (auto text = value.as<String>()) {
    std::cout << "text " << text->size() << '\n' << std::string(*text);
  } else {
    std::cout << "array " << value.cast<Array<Any>>().size() << '\n';
  }
}

void Run(const std::string& command, std::istream& line) {
  std::string name, word, module;
  line >> name;
  if (command == "read") return Write(values.at(name));
  if (command == "has") {
    line >> word;
    std::cout << (values.at(name).cast<Module>()->GetFunction(word, true).has_value() ? "yes\n" : "no\n");
    return;
  }
  if (command == "load") {
    line >> word;
    values[name] = Module::LoadFromFile(word);
  } else if (command == "vm") {
    line >> word;
    values[name] = Vm(word);
  } else if (command == "tensor") {
    values[name] = ReadTensor(line);
  } else if (command == "shape") {
    values[name] = Shape(Numbers(line));
  } else if (command == "item") {
    size_t index;
    line >> word >> index;
    values[name] = values.at(word).cast<Array<Any>>()[index];
  } else if (command == "array" || command == "call") {
    if (command == "call") line >> module >> word;
    Function function = command == "call" ? Find(module, word) : Function();
    std::vector<Any> arguments;
    while (line >> word) arguments.push_back(Value(word));
    if (command == "array") {
      values[name] = Array<Any>(arguments.begin(), arguments.end());
    } else {
      std::vector<AnyView> views(arguments.begin(), arguments.end());
      Any result;
      function.CallPacked(views.data(), static_cast<int32_t>(views.size()), &result);
      values[name] = result;
    }
  } else if (command == "free") {
    values.erase(name);
  } else {
    TVM_FFI_THROW(ValueError) << "unknown command " << command;
  }
  std::cout << "ok\n";
}

int main() {
  for (std::string text, command; std::getline(std::cin, text);) {
    std::istringstream line(text);
    line >> command;
    try {
      Run(command, line);
    } catch (const std::exception& error) {
      std::string what = error.what();
      std::cout << "error " << what.substr(0, what.find('\n')) << '\n';
    }
    std::cout.flush();
  }
}
