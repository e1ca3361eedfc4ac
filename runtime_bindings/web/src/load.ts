/** Load an engine and its tokenizer from a URL: download, compile shaders and copy weights concurrently. */
import { type Artefact, artefactUrl, openArtefact } from "./artefact.js";
import { checkAdapter, findAdapter, type Gpu, openDevice } from "./device.js";
import { fetchFile, inParallel } from "./download.js";
import { Engine } from "./engine.js";
import { Library } from "./library.js";
import { Stage } from "./progress.js";
import { FileStore } from "./store.js";
import { Tokenizer } from "./tokenizer.js";
import type { LoadOptions } from "./types.js";
import { Weights } from "./weights.js";

/** Shards downloaded at a time; a shard has at most 32 MiB, or one tensor. */
const WIDTH = 3;

/** A model without a conversation. */
export interface Model {
  artefact: Artefact;
  engine: Engine;
  tokenizer: Tokenizer;
  /** Whether all of its files are cached in the browser for the next visit. */
  kept: boolean;
  loadSeconds: number;
  shaderSeconds: number;
}

/** Load the artefact at `url`. Throws ArgosyError, or the reason of `options.signal`. */
export async function loadModel(url: string | URL, options: LoadOptions = {}): Promise<Model> {
  const started = performance.now();
  const { signal } = options;
  signal?.throwIfAborted();
  const adapter = await findAdapter();
  const store = await FileStore.open(options.cache ?? true);
  const artefact = await openArtefact(artefactUrl(url), store, adapter.features, signal);
  checkAdapter(adapter, artefact);
  const gpu = await openDevice(adapter, artefact.library.features);
  const loading = new Loading(artefact, gpu, store, options);
  const parts = await loading.all();
  return { artefact, ...parts, kept: store.keeps && !store.full, loadSeconds: (performance.now() - started) / 1000 };
}

/** The parts of a model while they load; if one fails, the others stop. */
class Loading {
  private readonly ending = new AbortController();
  private shaderSeconds = 0;

  constructor(
    private readonly artefact: Artefact,
    private readonly gpu: Gpu,
    private readonly store: FileStore,
    private readonly options: LoadOptions,
  ) {}

  async all(): Promise<Pick<Model, "engine" | "tokenizer" | "shaderSeconds">> {
    const { signal } = this.options;
    const abort = (): void => this.ending.abort(signal?.reason);
    signal?.addEventListener("abort", abort);
    const library = this.library();
    const shaders = library.then((loaded) => this.shaders(loaded));
    const weights = this.weights(library);
    const parts = [library, shaders, weights, this.tokenizer()] as const;
    try {
      signal?.throwIfAborted();
      const [loaded, , params, tokenizer] = await Promise.race([Promise.all(parts), this.ended()]);
      const engine = new Engine(loaded, params.params(), this.options.contextWindowSize);
      await loaded.instance.webgpu().sync();
      this.gpu.check();
      return { engine, tokenizer, shaderSeconds: this.shaderSeconds };
    } catch (thrown) {
      const error = signal?.aborted ? thrown : await this.gpu.explain(thrown, "the model could not be initialized");
      this.ending.abort(error);
      const [loaded] = await Promise.allSettled(parts);
      this.gpu.destroy();
      if (loaded.status === "fulfilled" && !this.gpu.lost) loaded.value.dispose();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Rejects when the caller aborts. */
  private ended(): Promise<never> {
    const { signal } = this.ending;
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
  }

  private async library(): Promise<Library> {
    const source = this.artefact.library;
    const stage = new Stage("library", source.bytes, this.options.onProgress);
    const wasm = await fetchFile(source, this.store, this.fetching(stage));
    this.ending.signal.throwIfAborted();
    return Library.load(wasm, this.artefact, this.gpu);
  }

  private async shaders(library: Library): Promise<void> {
    const started = performance.now();
    let stage: Stage | undefined;
    await library.compileShaders((done, total) => {
      stage ??= new Stage("shaders", total, this.options.onProgress);
      stage.set(done);
    });
    this.shaderSeconds = (performance.now() - started) / 1000;
  }

  private async weights(library: Promise<Library>): Promise<Weights> {
    const stage = new Stage("weights", this.artefact.weightBytes, this.options.onProgress);
    const weights = library.then((loaded) => new Weights(loaded, this.artefact.library));
    weights.catch(() => undefined); // reported to whoever awaits it
    await inParallel(this.artefact.shards, WIDTH, async (shard) => {
      const bytes = await fetchFile(shard, this.store, this.fetching(stage));
      const target = await weights;
      this.ending.signal.throwIfAborted();
      await target.add(shard, bytes);
    });
    return weights;
  }

  private async tokenizer(): Promise<Tokenizer> {
    const sources = this.artefact.tokenizerFiles;
    const total = sources.reduce((sum, source) => sum + source.bytes, 0);
    const stage = new Stage("tokenizer", total, this.options.onProgress);
    const files = new Map<string, Uint8Array>();
    for (const source of sources) files.set(source.file, await fetchFile(source, this.store, this.fetching(stage)));
    return Tokenizer.fromFiles(files);
  }

  private fetching(stage: Stage): Parameters<typeof fetchFile>[2] {
    return { onBytes: (count, cached) => stage.add(count, cached), signal: this.ending.signal };
  }
}
