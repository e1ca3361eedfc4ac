/** The bytes of a compiled library and a GPU go in; its functions come out, with all that it says of itself. */
import * as tvmjs from "@mlc-ai/web-runtime";
import { ABI, type Artefact, type TensorRecord } from "./artefact.js";
import type { Gpu } from "./device.js";
import { ArgosyError, oneLine, orTooLarge } from "./errors.js";
import { parsedText, Reader } from "./records.js";
import { recordLess } from "./recorder.js";
import { Wasi } from "./wasi.js";

/**
 * Shaders of functions that only other runtimes call: tokens are chosen here on the CPU, and the cache has one sequence.
 * If one of them were called after all, the runtime would compile it then.
 */
const UNUSED = /^(softmax_p|sort_descending|sample_top_p|logit_bias|penalties|bitmask|kv_copy_page|kv_read_back)/;
/** Shaders of a prompt that continues what is in the cache: the first one does not. */
const LATER = /^attention_prefill_kernel/;
const REBUILD = "build it again with `argosy build --target webgpu`, and serve the whole directory";

/** What a library says of itself in `_metadata`. */
export interface Metadata {
  params: { name: string; shape: number[]; dtype: string }[];
  contextWindowSize: number;
  prefillChunkSize: number;
  pageSize: number;
  vocabSize: number;
  numLayers: number;
  kvBytesPerToken: number;
}

/** A shader as the library describes it. */
interface ShaderInfo {
  name: string;
  arg_types: string[];
}

/** The part of the runtime's own WebGPU context that is used here. */
interface ShaderContext {
  createShaderAsync(info: ShaderInfo, code: string): Promise<(...args: unknown[]) => void>;
}

/** A library that is ready but for its shaders and weights. */
export class Library {
  /** Resolves when the shaders are there that a first answer does not need. */
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

  /** A function of the library, kept until the library goes. */
  function(name: string): tvmjs.PackedFunc {
    return this.kept(() => this.machine.getFunction(name));
  }

  /** A function of the runtime in the library, kept as well. */
  builtin(name: string): tvmjs.PackedFunc {
    return this.kept(() => this.instance.getGlobalFunc(name));
  }

  /** Runs `make` in a scope of its own, which only its result outlives. */
  kept<T extends tvmjs.Disposable>(make: () => T): T {
    return this.scoped(() => this.instance.detachFromCurrentScope(make()));
  }

  /** Runs `action`, and frees the runtime's objects that it made. */
  scoped<T>(action: () => T): T {
    this.instance.beginScope();
    try {
      return action();
    } finally {
      this.instance.endScope();
    }
  }

  /**
   * Compiles the shaders that a first answer needs, all at once and beside whatever else goes on; `onShader` is told
   * after each of them. `otherShaders` are begun when these are done.
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
    shaders.sort((one, other) => other.code.length - one.code.length); // so that no long one is the last to begin
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
      await Promise.all(first.map((each) => compile(each).then(() => onShader(++done, first.length))));
    } catch (error) {
      throw await this.gpu.explain(error, "the browser cannot compile the model's shaders");
    }
    const rest = shaders.filter((each) => !first.includes(each));
    this.otherShaders = Promise.all(rest.map(compile)).then(() => undefined);
    this.otherShaders.catch(() => undefined); // whoever waits for them hears
  }

  /** Refuses shaders with more buffers than this GPU lets one have. */
  private checkShaders(infos: readonly ShaderInfo[]): void {
    const most = this.gpu.device.limits.maxStorageBuffersPerShaderStage;
    const needed = Math.max(...infos.map((info) => info.arg_types.filter((type) => type === "handle").length));
    if (needed > most) {
      const message = `the model's shaders use ${needed} buffers at once, and this GPU allows ${most}`;
      throw new ArgosyError(message, "use another browser or a newer graphics driver");
    }
  }

  dispose(): void {
    this.machine.dispose();
    this.instance.dispose();
  }
}

/** Checks what the library says against the manifest and the weights. */
function metadataOf(text: string, artefact: Artefact): Metadata {
  const { file, weightsLayout, specDigest } = artefact.library;
  const says = new Reader(parsedText(text, "_metadata", REBUILD), "_metadata", REBUILD);
  const expected = { abi: ABI, weights_layout: weightsLayout, spec_digest: specDigest };
  for (const [name, value] of Object.entries(expected)) {
    if (says.values[name] !== value) {
      const message = `\`${file}\` is not the library of the manifest: its \`${name}\` is another`;
      throw new ArgosyError(message, REBUILD);
    }
  }
  const params = says.children("params").map((each) => ({
    name: each.text("name"),
    shape: each.counts("shape"),
    dtype: each.text("dtype"),
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

/** Each tensor that the library takes must be in the weights, in that shape. */
function checkParams(params: Metadata["params"], artefact: Artefact): void {
  const stored = new Map<string, TensorRecord>();
  for (const shard of artefact.shards) for (const tensor of shard.tensors) stored.set(tensor.name, tensor);
  for (const { name, shape, dtype } of params) {
    const tensor = stored.get(name);
    const there = tensor ? `${tensor.dtype} [${tensor.shape}]` : "missing";
    if (there !== `${dtype} [${shape}]`) {
      const message = `the tensor \`${name}\` is ${there} in the weights, and the library wants ${dtype} [${shape}]`;
      throw new ArgosyError(message, REBUILD);
    }
  }
}
