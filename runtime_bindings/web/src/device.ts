/** What a model needs goes in; a GPU device that has it comes out, or one sentence that says what is missing. */
import type { Artefact } from "./artefact.js";
import { ArgosyError, oneLine } from "./errors.js";

const OTHER_BROWSER = "use a current Chrome, Edge or Safari, or Firefox on Windows or macOS";
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** A GPU that computes, and a watch over it. */
export class Gpu {
  /** Why it computes no more. */
  lost: ArgosyError | null = null;
  private readonly end: Promise<void>;
  private ours = false;

  constructor(
    readonly device: GPUDevice,
    /** What the browser says of it. */
    readonly description: string,
  ) {
    this.end = device.lost.then((info) => {
      if (!this.ours) this.lost = lostDevice(info);
    });
  }

  /** Whether it was lost, or given back. */
  get gone(): boolean {
    return this.ours || this.lost !== null;
  }

  /** Throws if it computes no more. */
  check(): void {
    if (this.lost) throw this.lost;
  }

  /** What to say of an `error` while doing `what`: mostly the loss of the device is behind it. */
  async explain(error: unknown, what: string): Promise<ArgosyError> {
    if (error instanceof ArgosyError) return error;
    await Promise.race([this.end, new Promise((resolve) => setTimeout(resolve, 50))]);
    return this.lost ?? new ArgosyError(`${what}: ${oneLine(error)}`, "reload the page, or try another browser", true);
  }

  /** Gives it back. */
  destroy(): void {
    this.ours = true;
    this.device.destroy();
  }
}

/** The runtime destroys the device when a buffer cannot be made; anything else is the browser's or the driver's doing. */
function lostDevice(info: GPUDeviceLostInfo): ArgosyError {
  if (info.reason === "destroyed") {
    const hint = "close other tabs, ask for a smaller context, or take a smaller model";
    return new ArgosyError("the GPU has too little memory for this model and its context", hint, true);
  }
  const reason = oneLine(info.message) || "no reason given";
  const hint = "reload the page; close other tabs if it recurs";
  return new ArgosyError(`the browser took the GPU away: ${reason}`, hint, true);
}

/** The browser's adapter, before anything is downloaded. */
export async function findAdapter(): Promise<GPUAdapter> {
  const gpu: GPU | undefined = globalThis.navigator?.gpu;
  if (!gpu) {
    if (globalThis.isSecureContext === false) {
      const hint = "open it over https, or as http://localhost";
      throw new ArgosyError("this page is not in a secure context, and so the browser hides WebGPU from it", hint);
    }
    throw new ArgosyError("this browser has no WebGPU", OTHER_BROWSER);
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    const hint = "switch on hardware acceleration in its settings and update the graphics driver, or use another browser";
    throw new ArgosyError("this browser has WebGPU, but finds no GPU that it may use", hint);
  }
  return adapter;
}

/** Refuses an adapter on which the model cannot run. */
export function checkAdapter(adapter: GPUAdapter, artefact: Artefact): void {
  const { features } = artefact.library;
  if (features.includes("shader-f16") && !adapter.features.has("shader-f16")) {
    const message = "this browser's GPU does not compute with 16-bit floats (shader-f16), which this model needs";
    throw new ArgosyError(message, `use another browser, or build the model with \`--quantization ${inFloat32(artefact)}\``);
  }
  for (const feature of features) {
    if (!adapter.features.has(feature)) {
      const hint = "use another browser, or build the model without it";
      throw new ArgosyError(`this browser's GPU lacks \`${feature}\`, which this model needs`, hint);
    }
  }
  const tensors = artefact.shards.flatMap((shard) => shard.tensors);
  const largest = tensors.reduce((a, b) => (b.nbytes > a.nbytes ? b : a), { name: "", nbytes: 0 });
  checkBinding(adapter.limits, largest.nbytes, `the tensor \`${largest.name}\``, "take a smaller model or scheme");
}

/** Refuses a buffer that shaders could not see whole. */
export function checkBinding(limits: GPUSupportedLimits, nbytes: number, what: string, hint: string): void {
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  if (nbytes <= most) return;
  const sizes = `${mebibytes(nbytes)}, and this GPU's shaders see at most ${mebibytes(most)} at once`;
  throw new ArgosyError(`${what} takes ${sizes}`, hint);
}

/** A device with all that the adapter can give of what models use. */
export async function openDevice(adapter: GPUAdapter, features: readonly string[]): Promise<Gpu> {
  const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = features as GPUFeatureName[];
  try {
    return new Gpu(await adapter.requestDevice({ requiredLimits, requiredFeatures }), describe(adapter));
  } catch (error) {
    throw new ArgosyError(`the browser gives no GPU device: ${oneLine(error)}`, "reload the page, or use another browser");
  }
}

function describe(adapter: GPUAdapter): string {
  const info: Partial<GPUAdapterInfo> = adapter.info ?? {};
  const name = info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(" ");
  return name || (info.isFallbackAdapter ? "a program on the processor" : "not named by this browser");
}

/** The scheme that stores the same and computes in 32-bit floats. */
function inFloat32(artefact: Artefact): string {
  return artefact.config.quantization.replace("f16", "f32");
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
}
