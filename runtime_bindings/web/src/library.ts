/** Load a compiled library on a GPU: its functions, shaders and metadata. */
import * as tvmjs from "@mlc-ai/web-runtime";
import { ABI, type Artefact, isWidened, type TensorRecord } from "./artefact.js";
import type { Gpu } from "./device.js";
import { ArgosyError, oneLine, orTooLarge } from "./errors.js";
import { parsedText, Reader } from "./records.js";
import { recordLess } from "./recorder.js";
import { Wasi } from "./wasi.js";

/**
 * Shaders that this package never calls: it samples on the CPU, and its cache has one sequence. The runtime would
 * compile one on demand.
 */
const UNUSED = /^(softmax_p|sort_descending|sample_top_p|logit_bias|penalties|bitmask|kv_copy_page|kv_read_back)/;
/** Shaders for a prompt that continues a cached one, which the first prompt does not. */
const LATER = /^attention_prefill_kernel/;
const REBUILD = "build it again with `argosy build --target webgpu`, and serve the whole directory";

/** A library's `_metadata`. */
export interface Metadata {
  params: { name: string; shape: number[]; dtype: string }[];
  contextWindowSize: number;
  prefillChunkSize: number;
  pageSize: number;
  vocabSize: number;
  numLayers: number;
  kvBytesPerToken: number;
}

/** A shader and its description in the library. */
interface ShaderInfo {
  name: string;
  arg_types: string[];
}

/** The part of the runtime's internal WebGPU context that this package uses. */
interface ShaderContext {
  createShaderAsync(info: ShaderInfo, code: string): Promise<(...args: unknown[]) => void>;
}

/** A library, ready to run once its shaders and weights are loaded. */
export class Library {
  /** Resolves when the shaders that the first answer does not need are compiled. */
  otherShaders: Promise<void> = Promise.resolve();

  private constructor(
    readonly instance: tvmjs.Instance,
    readonly machine: tvmjs.VirtualMachine,
    readonly gpu: Gpu,
    readonly metadata: Metadata,
  ) {}

  static async load(wasm: Uint8Array<ArrayBuffer>, artefact: Artefact, gpu: Gpu): Promise<Library> {
    const { file } = artefact.library;
    try {
      const system = new Wasi(console.debug);
      const instance = await tvmjs.instantiate(wasm.buffer, system as unknown as Record<string, unknown>, console.debug);
      recordLess(gpu.device);
      instance.initWebGPU(gpu.device);
      instance.beginScope();
      const machine = instance.detachFromCurrentScope(instance.createVirtualMachine(instance.webgpu()));
      const text = String(machine.getFunction("_metadata")());
      instance.endScope();
      return new Library(instance, machine, gpu, metadataOf(text, artefact));
    } catch (thrown) {
      const error = orTooLarge(thrown, `\`${file}\``);
      if (error instanceof ArgosyError) throw error;
      throw new ArgosyError(`\`${file}\` cannot be loaded as a library: ${oneLine(error)}`, REBUILD);
    }
  }

  /** Get a function of the library; it lives as long as the library. */
  function(name: string): tvmjs.PackedFunc {
    return this.kept(() => this.machine.getFunction(name));
  }

  /** Get a function of the runtime inside the library; it lives as long as the library. */
  builtin(name: string): tvmjs.PackedFunc {
    return this.kept(() => this.instance.getGlobalFunc(name));
  }

  /** Run `make` in a scope that only its result outlives. */
  kept<T extends tvmjs.Disposable>(make: () => T): T {
    return this.scoped(() => this.instance.detachFromCurrentScope(make()));
  }

  /** Run `action` and free the runtime objects that it created. */
  scoped<T>(action: () => T): T {
    this.instance.beginScope();
    try {
      return action();
    } finally {
      this.instance.endScope();
    }
  }

  /**
   * Compile the shaders that the first answer needs, concurrently; `onShader` is called after every one. The others
   * (`otherShaders`) start when these are done.
   */
  async compileShaders(onShader: (done: number, total: number) => void): Promise<void> {
    const { instance } = this;
    const context = (instance as unknown as { lib: { webGPUContext: ShaderContext } }).lib.webGPUContext;
    const module = this.machine.getInternalModule();
    const list = this.kept(() => module.getFunction("webgpu.get_fmap", true));
    const source = this.kept(() => module.getFunction("webgpu.get_shader", true));
    const enter = this.kept(() => module.getFunction("webgpu.update_prebuild", true));
    const infos = Object.values(JSON.parse(list() as string) as Record<string, ShaderInfo>);
    this.checkShaders(infos);
    const shaders = infos.filter(({ name }) => !UNUSED.test(name)).map((info) => ({ info, code: String(source(info.name)) }));
    shaders.sort((one, other) => other.code.length - one.code.length); // longest first, so that none is left for the end
    const first = shaders.filter(({ info }) => !LATER.test(info.name));
    let done = 0;
    onShader(0, first.length);
    const compile = async ({ info, code }: (typeof shaders)[number]): Promise<void> => {
      const start = performance.now();
      const run = await context.createShaderAsync(info, code);
      performance.measure(`argosy shader ${info.name}`, { start, detail: { characters: code.length } });
      if (!this.gpu.gone) this.scoped(() => enter(info.name, run));
    };
    try {
      await Promise.all(first.map((shader) => compile(shader).then(() => onShader(++done, first.length))));
    } catch (error) {
      throw await this.gpu.explain(error, "the browser cannot compile the model's shaders");
    }
    const rest = shaders.filter((shader) => !first.includes(shader));
    this.otherShaders = Promise.all(rest.map(compile)).then(() => undefined);
    this.otherShaders.catch(() => undefined); // reported to whoever awaits it
  }

  /** Refuse shaders that bind more buffers than this GPU allows. */
  private checkShaders(infos: readonly ShaderInfo[]): void {
    const most = this.gpu.device.limits.maxStorageBuffersPerShaderStage;
    const needed = Math.max(...infos.map((info) => info.arg_types.filter((type) => type === "handle").length));
    if (needed > most) {
      const message = `the model's shaders bind ${needed} buffers at once, but this GPU allows ${most}`;
      throw new ArgosyError(message, "use another browser or a newer graphics driver");
    }
  }

  dispose(): void {
    this.machine.dispose();
    this.instance.dispose();
  }
}

/** Check the library's metadata against the manifest and the weights. */
function metadataOf(text: string, artefact: Artefact): Metadata {
  const { file, weightsLayout, specDigest } = artefact.library;
  const says = new Reader(parsedText(text, "_metadata", REBUILD), "_metadata", REBUILD);
  const expected = { abi: ABI, weights_layout: weightsLayout, spec_digest: specDigest };
  for (const [name, value] of Object.entries(expected)) {
    if (says.values[name] !== value) {
      const message = `\`${file}\` is not the library in the manifest: its \`${name}\` differs`;
      throw new ArgosyError(message, REBUILD);
    }
  }
  const params = says.children("params").map((param) => ({
    name: param.text("name"),
    shape: param.counts("shape"),
    dtype: param.text("dtype"),
  }));
  checkParams(params, artefact);
  return {
    params,
    contextWindowSize: says.count("context_window_size"),
    prefillChunkSize: says.count("prefill_chunk_size"),
    pageSize: says.count("page_size"),
    vocabSize: says.count("vocab_size"),
    numLayers: says.count("num_layers"),
    kvBytesPerToken: says.count("kv_bytes_per_token"),
  };
}

/** Check that the weights have every tensor of the library, in its shape and dtype. */
function checkParams(params: Metadata["params"], artefact: Artefact): void {
  const stored = new Map<string, TensorRecord>();
  for (const shard of artefact.shards) for (const tensor of shard.tensors) stored.set(tensor.name, tensor);
  for (const { name, shape, dtype } of params) {
    const tensor = stored.get(name);
    const loaded = tensor && isWidened(tensor, artefact.library) ? "float32" : tensor?.dtype;
    const there = tensor ? `${loaded} [${tensor.shape}]` : "missing";
    if (there !== `${dtype} [${shape}]`) {
      const message = `the tensor \`${name}\` is ${there} in the weights, but the library takes ${dtype} [${shape}]`;
      throw new ArgosyError(message, REBUILD);
    }
  }
}
