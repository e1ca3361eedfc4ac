/** Request a GPU device that can run a model, or explain what is missing. */
import { type Artefact, isWidened } from "./artefact.js";
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

/** A GPU device, and what became of it. */
export class Gpu {
  /** Why the device was lost, or null. */
  lost: ArgosyError | null = null;
  private readonly end: Promise<void>;
  private ours = false;

  constructor(
    readonly device: GPUDevice,
    /** The browser's description of it. */
    readonly description: string,
  ) {
    this.end = device.lost.then((info) => {
      if (!this.ours) this.lost = lostDevice(info);
    });
  }

  /** Whether the device was lost or released. */
  get gone(): boolean {
    return this.ours || this.lost !== null;
  }

  /** Throw if the device was lost. */
  check(): void {
    if (this.lost) throw this.lost;
  }

  /** Turn an `error` during `what` into one to show: most often the device was lost. */
  async explain(error: unknown, what: string): Promise<ArgosyError> {
    if (error instanceof ArgosyError) return error;
    await Promise.race([this.end, new Promise((resolve) => setTimeout(resolve, 50))]);
    return this.lost ?? new ArgosyError(`${what}: ${oneLine(error)}`, "reload the page, or try another browser", true);
  }

  /** Release the device. */
  destroy(): void {
    this.ours = true;
    this.device.destroy();
  }
}

/** The runtime destroys the device if it cannot create a buffer; otherwise the browser or the driver lost it. */
function lostDevice(info: GPUDeviceLostInfo): ArgosyError {
  if (info.reason === "destroyed") {
    const hint = "close other tabs, or use a smaller context or a smaller model";
    return new ArgosyError("the GPU has too little memory for this model and its context", hint, true);
  }
  const reason = oneLine(info.message) || "no reason given";
  const hint = "reload the page; close other tabs if it recurs";
  return new ArgosyError(`the browser took the GPU away: ${reason}`, hint, true);
}

/** Request the browser's adapter, before anything is downloaded. */
export async function findAdapter(): Promise<GPUAdapter> {
  const gpu: GPU | undefined = globalThis.navigator?.gpu;
  if (!gpu) {
    if (globalThis.isSecureContext === false) {
      const hint = "open it over https, or as http://localhost";
      throw new ArgosyError("this page is not in a secure context, so the browser hides WebGPU from it", hint);
    }
    throw new ArgosyError("this browser has no WebGPU", OTHER_BROWSER);
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    const hint = "turn on hardware acceleration in its settings and update the graphics driver, or use another browser";
    throw new ArgosyError("this browser has WebGPU, but no GPU that it can use", hint);
  }
  return adapter;
}

/** Refuse an adapter that cannot run the model. */
export function checkAdapter(adapter: GPUAdapter, artefact: Artefact): void {
  const { features } = artefact.library;
  if (features.includes("shader-f16") && !adapter.features.has("shader-f16")) {
    const message = "this browser's GPU cannot compute in 16-bit floats (shader-f16), and the artefact has no library without";
    throw new ArgosyError(message, "run `argosy build --target webgpu` again, which adds one, or use another browser");
  }
  for (const feature of features) {
    if (!adapter.features.has(feature)) {
      const hint = "use another browser, or build the model without it";
      throw new ArgosyError(`this browser's GPU lacks \`${feature}\`, which this model needs`, hint);
    }
  }
  const tensors = artefact.shards.flatMap((shard) => shard.tensors).map((tensor) => ({
    name: tensor.name,
    nbytes: tensor.nbytes * (isWidened(tensor, artefact.library) ? 2 : 1),
  }));
  const largest = tensors.reduce((a, b) => (b.nbytes > a.nbytes ? b : a), { name: "", nbytes: 0 });
  checkBinding(adapter.limits, largest.nbytes, `the tensor \`${largest.name}\``, "use a smaller model or scheme");
}

/** Refuse a buffer larger than a shader can bind. */
export function checkBinding(limits: GPUSupportedLimits, nbytes: number, what: string, hint: string): void {
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  if (nbytes <= most) return;
  const sizes = `${mebibytes(nbytes)}, but this GPU's shaders can bind at most ${mebibytes(most)}`;
  throw new ArgosyError(`${what} takes ${sizes}`, hint);
}

/** Request a device with the adapter's best limits and features, of the ones that models use. */
export async function openDevice(adapter: GPUAdapter, features: readonly string[]): Promise<Gpu> {
  const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = features as GPUFeatureName[];
  try {
    return new Gpu(await adapter.requestDevice({ requiredLimits, requiredFeatures }), describe(adapter));
  } catch (error) {
    const hint = "reload the page, or use another browser";
    throw new ArgosyError(`the browser provides no GPU device: ${oneLine(error)}`, hint);
  }
}

function describe(adapter: GPUAdapter): string {
  const info: Partial<GPUAdapterInfo> = adapter.info ?? {};
  const name = info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(" ");
  return name || (info.isFallbackAdapter ? "software rendering on the CPU" : "not named by the browser");
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
}
