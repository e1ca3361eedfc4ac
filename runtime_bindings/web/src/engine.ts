/** Generate the token ids of an answer on the GPU, one at a time. */
import type { PackedFunc, Tensor, TVMArray, TVMObject } from "@mlc-ai/web-runtime";
import { checkBinding } from "./device.js";
import { ArgosyError } from "./errors.js";
import type { Library } from "./library.js";
import { checkVocabulary } from "./params.js";
import { type Sample, Sampler } from "./sampler.js";
import type { FinishReason, GenerationConfig } from "./types.js";

/** A request for one answer. */
export interface Request {
  prompt: readonly number[];
  config: GenerationConfig;
  stopTokens: ReadonlySet<number>;
  /** How many leading tokens are kept when a full context slides. */
  protect: number;
  /** Called between passes; true ends the answer. */
  cancelled: () => boolean;
}

/** Tokens and wall-clock seconds of one request. */
export interface RequestStats {
  /** Tokens of the prompt that were already in the KV cache. */
  reusedTokens: number;
  /** Tokens computed by prefill; more than the prompt if the context slid. Seconds include sampling. */
  prefillTokens: number;
  prefillSeconds: number;
  completionTokens: number;
  decodeTokens: number;
  decodeSeconds: number;
  firstTokenSeconds: number;
}

const SEQUENCE = 0;

/** One sequence with its KV cache: tokens that a prompt shares with the cache are not computed again. */
export class Engine {
  readonly contextWindow: number;
  readonly kvBytes: number;
  stats: RequestStats = noStats();
  /** The tokens in the cache, in order. */
  private held: number[] = [];
  private readonly state: TVMObject;
  private readonly functions: Readonly<Record<"embed" | "prefill" | "decode" | "clear" | "add" | "pop" | "begin" | "end", PackedFunc>>;

  constructor(
    readonly library: Library,
    private readonly params: TVMObject,
    contextWindow?: number,
  ) {
    const { metadata, gpu, instance } = library;
    this.contextWindow = checkedWindow(contextWindow, metadata.contextWindowSize);
    const pages = Math.ceil(this.contextWindow / metadata.pageSize) + 1;
    this.kvBytes = pages * metadata.pageSize * metadata.kvBytesPerToken;
    const hint = "use a smaller context: the option `contextWindowSize` of `load`";
    checkBinding(gpu.device.limits, this.kvBytes / metadata.numLayers, "the KV cache of a layer", hint);
    const builtin = (name: string): PackedFunc => library.builtin(`vm.builtin.kv_state_${name}`);
    this.functions = {
      embed: library.function("embed"),
      prefill: library.function("prefill"),
      decode: library.function("decode"),
      clear: builtin("clear"),
      add: builtin("add_sequence"),
      pop: builtin("popn"),
      begin: builtin("begin_forward"),
      end: builtin("end_forward"),
    };
    const create = library.function("create_tir_paged_kv_cache");
    const sizes = [1, this.contextWindow, metadata.prefillChunkSize, metadata.pageSize, 0];
    this.state = library.kept(() => create(...sizes.map((size) => instance.makeShapeTuple([size]))) as TVMObject);
    create.dispose();
    this.clear();
  }

  /** Tokens in the KV cache. */
  get contextUsed(): number {
    return this.held.length;
  }

  /** Yield the answer's tokens, without the one that ends it; return why it ended. */
  async *generate(request: Request): AsyncGenerator<Sample, FinishReason, undefined> {
    const { config } = request;
    this.check(request);
    const started = performance.now();
    const sampler = new Sampler(config);
    const tokens = [...request.prompt];
    const stats = (this.stats = noStats());
    stats.reusedTokens = this.keepCommonPrefix(tokens);
    for (;;) {
      const sample = await this.next(tokens, sampler, request.cancelled);
      if (!sample || request.cancelled()) return "cancelled";
      if (!stats.completionTokens) stats.firstTokenSeconds = (performance.now() - started) / 1000;
      if (request.stopTokens.has(sample.token)) return "stop";
      tokens.push(sample.token);
      stats.completionTokens++;
      yield sample;
      if (config.max_tokens !== null && stats.completionTokens >= config.max_tokens) return "length";
      if (tokens.length > this.contextWindow && !this.slide(tokens, request)) return "context";
    }
  }

  /** Clear the cache. */
  clear(): void {
    this.held = [];
    this.functions.clear(this.state);
    this.functions.add(this.state, this.library.instance.scalar(SEQUENCE, "int64"));
  }

  /** Free the GPU's memory. */
  dispose(): void {
    const { gpu } = this.library;
    gpu.destroy();
    if (gpu.lost) return; // the runtime has freed everything
    for (const held of Object.values(this.functions)) held.dispose();
    this.state.dispose();
    this.params.dispose();
    this.library.dispose();
  }

  /** Refuse a request that the model cannot compute. */
  private check({ prompt, config }: Request): void {
    const { vocabSize } = this.library.metadata;
    if (!prompt.length) throw new ArgosyError("the prompt has no tokens", "pass a text that is not empty");
    const unknown = prompt.find((token) => !(Number.isInteger(token) && token >= 0 && token < vocabSize));
    if (unknown !== undefined) {
      throw new ArgosyError(`the prompt has the token \`${unknown}\`, but the model knows 0 to ${vocabSize - 1}`);
    }
    checkVocabulary(config, vocabSize);
    if (prompt.length > this.contextWindow) {
      const message = `the prompt has ${prompt.length} tokens, but the context window holds ${this.contextWindow}`;
      throw new ArgosyError(message, "shorten it, begin a new chat, or build with a larger --context-window");
    }
  }

  /** Cut the cache to its common prefix with `tokens`, without the last token, whose logits are needed. */
  private keepCommonPrefix(tokens: readonly number[]): number {
    let common = 0;
    while (common < Math.min(this.held.length, tokens.length - 1) && this.held[common] === tokens[common]) common++;
    this.cut(common);
    return common;
  }

  private cut(length: number): void {
    const count = this.held.length - length;
    if (!count) return;
    if (!length) {
      this.clear();
      return;
    }
    const { instance } = this.library;
    this.functions.pop(this.state, instance.scalar(SEQUENCE, "int64"), instance.scalar(count, "int32"));
    this.held.length = length;
  }

  /** Drop the oldest unprotected tokens until half of their room is free; false if the answer has to end instead. */
  private slide(tokens: number[], { config, protect }: Request): boolean {
    const room = Math.min(tokens.length, this.contextWindow) - protect;
    if (config.on_context_full === "stop" || room < 2) return false;
    tokens.splice(protect, tokens.length - Math.floor(room / 2) - protect);
    this.cut(Math.min(protect, this.held.length));
    return true;
  }

  /** Sample the token after `tokens`, computing the ones not in the cache; null if cancelled between passes. */
  private async next(tokens: readonly number[], sampler: Sampler, cancelled: () => boolean): Promise<Sample | null> {
    const { stats } = this;
    for (;;) {
      const chunk = tokens.slice(this.held.length, this.held.length + this.library.metadata.prefillChunkSize);
      if (cancelled()) return null;
      const started = performance.now();
      const logits = await this.forward(chunk);
      const sample = this.held.length === tokens.length ? sampler.sample(logits, tokens) : null;
      const seconds = (performance.now() - started) / 1000;
      if (stats.completionTokens && chunk.length === 1) {
        stats.decodeTokens++;
        stats.decodeSeconds += seconds;
      } else {
        stats.prefillTokens += chunk.length;
        stats.prefillSeconds += seconds;
      }
      if (sample) return sample;
    }
  }

  /** Append `tokens` and return the logits (vocab,) after the last one. After an error the cache is empty. */
  private async forward(tokens: readonly number[]): Promise<Float32Array> {
    const { library } = this;
    const { instance, gpu } = library;
    gpu.check();
    let logits: Tensor | null = null;
    try {
      if (this.held.length && tokens.length > 1) await library.otherShaders;
      logits = this.pass(tokens);
      await instance.webgpu().sync();
      gpu.check();
      this.held.push(...tokens);
      return new Float32Array(logits.toArray());
    } catch (error) {
      const reason = await gpu.explain(error, "the GPU could not compute the model");
      if (!gpu.lost) this.clear();
      throw reason;
    } finally {
      if (!gpu.lost) logits?.dispose();
    }
  }

  /** Queue one pass; the logits can be read once the GPU has finished. */
  private pass(tokens: readonly number[]): Tensor {
    const { instance, metadata } = this.library;
    const { embed, prefill, decode, begin, end } = this.functions;
    const count = tokens.length;
    return this.library.kept(() => {
      const device = instance.webgpu();
      const ids = instance.empty([count], "int32", device).copyFrom([...tokens]);
      const embedded = embed(ids, this.params) as Tensor; // (n, hidden)
      const hidden = embedded.view([1, ...embedded.shape]);
      begin(this.state, instance.makeShapeTuple([SEQUENCE]), instance.makeShapeTuple([count]));
      const step = count === 1 ? decode : prefill;
      const result = step(hidden, this.state, this.params) as TVMArray;
      end(this.state);
      const logits = result.get(0) as Tensor; // (1, 1, vocab)
      return instance.empty([metadata.vocabSize], "float32", instance.cpu()).copyFrom(logits.view([metadata.vocabSize]));
    });
  }
}

function checkedWindow(wanted: number | undefined, built: number): number {
  if (wanted === undefined) return built;
  if (!Number.isInteger(wanted) || wanted < 2 || wanted > built) {
    const allowed = `it must be a whole number from 2 to ${built}, the size the model was built for`;
    throw new ArgosyError(`\`contextWindowSize=${wanted}\` is not allowed, ${allowed}`);
  }
  return wanted;
}

export function noStats(): RequestStats {
  return {
    reusedTokens: 0,
    prefillTokens: 0,
    prefillSeconds: 0,
    completionTokens: 0,
    decodeTokens: 0,
    decodeSeconds: 0,
    firstTokenSeconds: 0,
  };
}
