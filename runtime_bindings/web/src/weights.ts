/** Copy weights to the GPU as their shards arrive. */
import type { TVMObject } from "@mlc-ai/web-runtime";
import { isWidened, type LibraryRecord, type Shard, type TensorRecord } from "./artefact.js";
import type { Library } from "./library.js";

/** Copies weights to the GPU one shard at a time, so that this thread holds no more than that in memory. */
export class Weights {
  private readonly wanted: ReadonlySet<string>;

  constructor(
    private readonly library: Library,
    private readonly record: Pick<LibraryRecord, "features">,
  ) {
    this.wanted = new Set(library.metadata.params.map((param) => param.name));
  }

  /** Copy the tensors of a shard; resolves when the GPU has them. */
  async add(shard: Shard, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { library } = this;
    try {
      for (const tensor of shard.tensors) {
        library.gpu.check();
        if (!this.wanted.has(tensor.name)) continue;
        const stored = bytes.subarray(tensor.offset, tensor.offset + tensor.nbytes);
        if (isWidened(tensor, this.record)) this.copy({ ...tensor, dtype: "float32" }, widened(stored));
        else this.copy(tensor, stored);
      }
      await library.instance.webgpu().sync();
      library.gpu.check();
    } catch (error) {
      throw await library.gpu.explain(error, `the weights in \`${shard.file}\` could not be copied to the GPU`);
    }
  }

  private copy(record: TensorRecord, bytes: Uint8Array): void {
    const { instance } = this.library;
    this.library.scoped(() => {
      const tensor = instance.empty(record.shape, record.dtype, instance.webgpu());
      if (bytes.length % 4 === 0) tensor.copyFromRawBytes(bytes);
      // The GPU copies words of four bytes; the runtime pads the last one if it copies from its own memory.
      else tensor.copyFrom(instance.empty(record.shape, record.dtype, instance.cpu()).copyFromRawBytes(bytes));
      instance.tensorCacheUpdate(record.name, tensor, false);
    });
  }

  /** Return the weights in the order of the library's parameters; call it once, after the last shard. */
  params(): TVMObject {
    const { instance, metadata } = this.library;
    const params = this.library.kept(() => instance.getParamsFromCacheByName(metadata.params.map((param) => param.name)));
    instance.tensorCacheClear();
    return params;
  }
}

/** Convert little-endian 16-bit floats to 32-bit ones, which hold the same values. */
export function widened(halves: Uint8Array): Uint8Array {
  const view = new DataView(halves.buffer, halves.byteOffset, halves.byteLength);
  const words = new DataView(new ArrayBuffer(2 * halves.length));
  for (let place = 0; place < halves.length; place += 2) words.setUint32(2 * place, widenedHalf(view.getUint16(place, true)), true);
  return new Uint8Array(words.buffer);
}

/** Return the bits of the 32-bit float with the value of a 16-bit one: 1 sign, 5 exponent and 10 fraction bits. */
function widenedHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return (sign | 0x7f800000 | (fraction << 13)) >>> 0; // infinity, or not a number
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  const shift = Math.clz32(fraction) - 21; // a subnormal number: its first bit becomes the implicit one
  return (sign | ((113 - shift) << 23) | (((fraction << shift) & 1023) << 13)) >>> 0;
}
