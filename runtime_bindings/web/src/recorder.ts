/** A GPU device goes in; from then on the kernels that a runtime gives to it cost fewer calls, and compute the same. */

/** Bind groups that are kept; a decoder's step has a few hundred, and repeats them. */
const KEPT = 4096;
const UNIFORM = 0x40; // GPUBufferUsage.UNIFORM, which not every environment has as a global

/**
 * For each kernel the runtime makes a bind group, writes the scalar arguments, and opens a pass. A model's steps are alike,
 * so most bind groups were made in the step before, and most arguments stand where they are written. Kernels in one pass
 * run one after the other and see each other's results, as in passes of their own.
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

/** Of uniform buffers only: those no kernel writes to. */
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

/** What ends a compute pass. */
const OTHERS = ["finish", "clearBuffer", "copyBufferToBuffer", "beginRenderPass"] as const;

/** `encoder` with one compute pass for all that follow each other. */
function joined(encoder: GPUCommandEncoder): GPUCommandEncoder {
  const begin = encoder.beginComputePass.bind(encoder);
  let pass: GPUComputePassEncoder | null = null;
  let end = (): void => undefined;
  encoder.beginComputePass = () => {
    if (pass) return pass;
    pass = begin();
    end = pass.end.bind(pass);
    pass.end = () => undefined; // for now: another may follow
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
