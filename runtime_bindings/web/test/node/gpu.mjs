/** Give Node the WebGPU of Dawn, on the Vulkan driver in the environment, or else on Chromium's SwiftShader. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** Restart this process with SwiftShader as its Vulkan driver, if the environment names no driver. */
export function ensureDriver() {
  if (process.env.VK_ICD_FILENAMES || process.env.VK_DRIVER_FILES || !existsSync(SWIFTSHADER)) return;
  const libraries = ["/usr/lib/chromium", process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  const env = { ...process.env, VK_ICD_FILENAMES: SWIFTSHADER, LD_LIBRARY_PATH: libraries };
  const { status } = spawnSync(process.execPath, process.argv.slice(1), { env, stdio: "inherit" });
  process.exit(status ?? 1);
}

/** Set `navigator.gpu`. The object must stay referenced, or the adapter vanishes on garbage collection. */
export async function installWebGpu() {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  const gpu = create(["backend=vulkan"]);
  Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  return gpu;
}
