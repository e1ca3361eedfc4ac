/** Make a runtime's kernel launches take fewer WebGPU calls. */

/** Bind groups to cache; a decoding step has a few hundred, and repeats them. */
const KEPT = 4096;
const UNIFORM = 0x40; // GPUBufferUsage.UNIFORM, which is not a global everywhere

/**
 * The runtime makes a bind group, writes the scalar arguments and opens a pass for every kernel. The steps of a model
 * are alike, so most bind groups exist from the step before, and most arguments are already in their buffers. Kernels
 * in one pass run in order and see each other's results, just as in separate passes.
 */
export function recordLess(device: GPUDevice): void {
  reuseBindGroups(device);
  skipEqualArguments(device.queue);
  joinPasses(device);
}

function reuseBindGroups(device: GPUDevice): void {
  const make = device.createBindGroup.bind(device);
  const numbers = new WeakMap<object, number>();
  let next = 0;
  const numberOf = (object: object): number => {
    let number = numbers.get(object);
    if (number === undefined) numbers.set(object, (number = next++));
    return number;
  };
  const made = new Map<string, GPUBindGroup>();
  device.createBindGroup = (descriptor) => {
    let key = `${numberOf(descriptor.layout)}`;
    for (const { binding, resource } of descriptor.entries) {
      if (!isBuffer(resource)) return make(descriptor);
      key += ` ${binding},${numberOf(resource.buffer)},${resource.offset ?? 0},${resource.size ?? ""}`;
    }
    let group = made.get(key);
    if (!group) {
      if (made.size >= KEPT) made.clear();
      made.set(key, (group = make(descriptor)));
    }
    return group;
  };
}

function isBuffer(resource: GPUBindingResource): resource is GPUBufferBinding {
  return "buffer" in resource;
}

/** Skip writes of unchanged bytes to uniform buffers, which no kernel writes to. */
function skipEqualArguments(queue: GPUQueue): void {
  const write = queue.writeBuffer.bind(queue);
  const held = new WeakMap<GPUBuffer, Uint32Array>();
  queue.writeBuffer = (buffer, offset, data, ...part) => {
    if (!(data instanceof ArrayBuffer) || offset || part.length || data.byteLength % 4 || !(buffer.usage & UNIFORM)) {
      held.delete(buffer);
      write(buffer, offset, data, ...part);
      return undefined;
    }
    const words = new Uint32Array(data);
    const before = held.get(buffer);
    if (before?.length === words.length && words.every((word, index) => word === before[index])) return undefined;
    held.set(buffer, words.slice());
    write(buffer, offset, data);
    return undefined;
  };
}

function joinPasses(device: GPUDevice): void {
  const make = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => joined(make(descriptor));
}

/** The encoder methods that end a compute pass. */
const OTHERS = ["finish", "clearBuffer", "copyBufferToBuffer", "beginRenderPass"] as const;

/** Wrap `encoder` so that consecutive compute passes become one. */
function joined(encoder: GPUCommandEncoder): GPUCommandEncoder {
  const begin = encoder.beginComputePass.bind(encoder);
  let pass: GPUComputePassEncoder | null = null;
  let end = (): void => undefined;
  encoder.beginComputePass = () => {
    if (pass) return pass;
    pass = begin();
    end = pass.end.bind(pass);
    pass.end = () => undefined; // not yet: another pass may follow
    return pass;
  };
  for (const name of OTHERS) {
    const record = encoder[name].bind(encoder) as (...args: unknown[]) => unknown;
    const after = (...args: unknown[]): unknown => {
      if (pass) end();
      pass = null;
      return record(...args);
    };
    Object.assign(encoder, { [name]: after });
  }
  return encoder;
}
