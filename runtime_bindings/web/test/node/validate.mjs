/**
 * Validate WGSL with Dawn, as Chromium does.
 *
 *   echo '{"shaders": {"NAME": "WGSL"}, "limits": {"maxStorageBuffersPerShaderStage": 10}}' | node validate.mjs
 *
 * Makes a compute pipeline of every shader, with the entry point of its name, on a device with these limits and float16
 * if the adapter has it. Prints {NAME: why it is refused} as JSON.
 */
import { readFileSync } from "node:fs";
import { ensureDriver, installWebGpu } from "./gpu.mjs";

ensureDriver();
const gpu = await installWebGpu();
const { shaders, limits } = JSON.parse(readFileSync(0, "utf-8"));
const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error("there is no adapter");
const requiredFeatures = ["shader-f16"].filter((name) => adapter.features.has(name));
const device = await adapter.requestDevice({ requiredFeatures, requiredLimits: limits });

/** Explain why `code` is refused; null if it is valid. */
async function refusal(entryPoint, code) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const compute = { module, entryPoint };
  const pipeline = device.createComputePipelineAsync({ layout: "auto", compute }).then(() => null, String);
  const [error, failure] = await Promise.all([device.popErrorScope(), pipeline]);
  return error?.message ?? failure;
}

const refused = {};
for (const [name, code] of Object.entries(shaders)) {
  const why = await refusal(name, code);
  if (why !== null) refused[name] = why;
}
console.log(JSON.stringify(refused));
process.exit(gpu ? 0 : 1);
