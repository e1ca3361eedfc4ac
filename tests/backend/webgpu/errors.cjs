// node errors.cjs PACKAGES LIBRARY: what errors of the library are in JavaScript, as JSON, with TVM's npm package as it is.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const tvmjs = createRequire(`${process.argv[2]}/package.json`)("@mlc-ai/web-runtime");

function caught(call) {
  try {
    call();
  } catch (error) {
    return { type: error.constructor.name, message: error.message };
  }
  return null;
}

async function main() {
  const runtime = await tvmjs.instantiate(readFileSync(process.argv[3]), tvmjs.createPolyfillWASI(), () => {});
  runtime.beginScope();
  const cpu = runtime.cpu();
  const machine = runtime.createVirtualMachine(cpu);
  const tensor = (values) => runtime.empty([values.length], "float32", cpu).copyFrom(values);
  const double = machine.getFunction("double_of_four");
  runtime.registerFunc("argosy.test.fails", () => { throw new Error("a callback failed"); });
  const errors = {
    shape: caught(() => double(tensor([1, 2, 3, 4, 5]))),
    type: caught(() => double(runtime.makeShapeTuple([1]))),
    callback: caught(() => runtime.getGlobalFunc("tvmjs.testing.call")(runtime.getGlobalFunc("argosy.test.fails"))),
    memory: caught(() => runtime.empty([3 * (1 << 28)], "float32", cpu)),
    file: caught(() => runtime.getGlobalFunc("ffi.Module.load_from_file.relax.VMExecutable")("some.file")),
  };
  // It goes on after all of them, with memory that has grown since JavaScript last looked.
  const large = runtime.empty([1 << 24], "float32", cpu);
  const after = Array.from(double(tensor([1, 2, 3, 4])).toArray());
  runtime.getGlobalFunc("tvmjs.testing.log_info_str")("a line for the console");
  console.log(JSON.stringify({ errors, after, large: large.shape[0] }));
}

main().then(() => process.exit(0));
