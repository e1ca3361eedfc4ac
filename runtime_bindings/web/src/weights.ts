/** Copy weights to the GPU as their shards arrive. */
import type { TVMObject } from "@mlc-ai/web-runtime";
import type { Shard, TensorRecord } from "./artefact.js";
import type { Library } from "./library.js";

/** Copies weights to the GPU one shard at a time, so that this thread holds no more than that in memory. */
export class Weights {
  private readonly wanted: ReadonlySet<string>;

  constructor(private readonly library: Library) {
    this.wanted = new Set(library.metadata.params.map((param) => param.name));
  }

  /** Copy the tensors of a shard; resolves when the GPU has them. */
  async add(shard: Shard, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { library } = this;
    try {
      for (const tensor of shard.tensors) {
        library.gpu.check();
        if (this.wanted.has(tensor.name)) this.copy(tensor, bytes.subarray(tensor.offset, tensor.offset + tensor.nbytes));
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
