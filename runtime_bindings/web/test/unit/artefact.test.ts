import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { artefactUrl, openArtefact } from "../../src/artefact.js";
import { checkAdapter, findAdapter, Gpu } from "../../src/device.js";
import { fetchFile, inParallel } from "../../src/download.js";
import { Library } from "../../src/library.js";
import { loadModel } from "../../src/load.js";
import { FileStore } from "../../src/store.js";
import { Tokenizer } from "../../src/tokenizer.js";
import { MemoryCaches, Site } from "./browser.js";
import { instantLibrary } from "./library.js";

type Json = Record<string, unknown>;

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const digest = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
const LAYOUT = "a".repeat(64);

let site: Site;
let base: URL;
let memory: MemoryCaches;

beforeEach(async () => {
  site = new Site();
  base = await site.start();
  memory = new MemoryCaches();
  vi.stubGlobal("caches", memory);
});

afterEach(async () => {
  await site.stop();
  vi.unstubAllGlobals();
});

/** Put an artefact with one shard on the site; `change` may spoil its lists first. */
function serve(folder = "", change: (lists: Record<string, Json>) => void = () => undefined): void {
  const shard = new Uint8Array(4096).map((_, i) => i % 251);
  const chat = {
    model_type: "llama", quantization: "q4f16_1", vocab_size: 10, context_window_size: 64, eos_token_id: [2, 3],
    tokenizer_files: ["tokenizer.json"],
  };
  const tensor = { name: "w", shape: [32, 32], dtype: "float32", format: "raw", nbytes: 4096, byteOffset: 0 };
  const record = { dataPath: "params_shard_0.bin", format: "raw-shard", nbytes: 4096, sha256: digest(shard), records: [tensor] };
  const library = {
    file: "m-webgpu.wasm", weights_layout: LAYOUT, spec_digest: "b".repeat(64), target: { features: ["shader-f16"] },
  };
  const lists: Record<string, Json> = {
    chat,
    cache: { records: [record] },
    manifest: { abi: 1, weights: { layout: LAYOUT }, config: {}, libraries: { webgpu: library }, files: {} },
  };
  change(lists);
  const files = new Map([
    ["params_shard_0.bin", shard],
    ["mlc-chat-config.json", bytes(JSON.stringify(lists["chat"]))],
    ["tensor-cache.json", bytes(JSON.stringify(lists["cache"]))],
    ["tokenizer.json", bytes("{}")],
    ["m-webgpu.wasm", bytes("wasm")],
  ]);
  const entries = [...files].map(([name, data]) => [name, { bytes: data.length, sha256: digest(data) }] as const);
  const manifest = lists["manifest"] as Json;
  manifest["files"] = { ...Object.fromEntries(entries), ...(manifest["files"] as Json) };
  files.set("argosy-manifest.json", bytes(JSON.stringify(manifest)));
  for (const [name, data] of files) site.files.set(`${folder}${name}`, data);
}

const HALVES = new Set(["shader-f16"]);
const open = async (features: ReadonlySet<string> = HALVES): ReturnType<typeof openArtefact> =>
  openArtefact(base, await FileStore.open(true), features);

describe("an artefact", () => {
  test.each(["", "resolve/main/"])("is found below `%s`", async (folder) => {
    serve(folder);
    const artefact = await open();
    expect(artefact.base.href).toBe(`${base.href}${folder}`);
    expect(artefact.name).toBe("m");
    expect(artefact.config.eosTokens).toEqual([2, 3]);
    expect(artefact.weightBytes).toBe(4096);
    expect(artefact.shards[0]?.tensors[0]).toMatchObject({ name: "w", offset: 0, nbytes: 4096 });
  });

  test("is found again without a network", async () => {
    serve();
    await open();
    await site.stop();
    expect((await open()).name).toBe("m");
  });

  test("that is not there", async () => {
    await expect(open()).rejects.toMatchObject({ message: expect.stringContaining("there is no artefact at") });
    await site.stop();
    await expect(open()).rejects.toMatchObject({ message: expect.stringContaining("cannot be reached") });
  });

  const spoiled: [string, (lists: Record<string, Json>) => void, RegExp][] = [
    ["another ABI", ({ manifest }) => (manifest!["abi"] = 2), /ABI 2, but this page reads ABI 1/],
    ["half-built", ({ manifest }) => (manifest!["weights"] = null), /half-built: its weights stage/],
    ["no library", ({ manifest }) => (manifest!["libraries"] = { cpu: {} }), /no library for `webgpu`; it holds cpu/],
    ["other weights", ({ manifest }) => (manifest!["weights"] = { layout: "c".repeat(64) }), /compiled for other weights/],
    ["a path", ({ cache }) => ((cache as never as { records: Json[] }).records[0]!["dataPath"] = "../x"), /plain file name/],
    ["no size", ({ chat }) => delete chat!["vocab_size"], /`vocab_size` is not a whole number/],
    [
      "a tensor beyond its shard",
      ({ cache }) => ((cache as never as { records: { records: Json[] }[] }).records[0]!.records[0]!["byteOffset"] = 4),
      /`w` ends beyond its shard/,
    ],
    [
      "two digests",
      ({ manifest }) => (manifest!["files"] = { "params_shard_0.bin": { bytes: 4096, sha256: LAYOUT } }),
      /two lists disagree about the digest of `params_shard_0.bin`/,
    ],
  ];
  test.each(spoiled.filter(([name]) => name !== "two digests"))("with %s is refused", async (_, change, message) => {
    serve("", change);
    await expect(open()).rejects.toMatchObject({ message: expect.stringMatching(message), hint: expect.stringMatching(/./) });
  });

  const alternative = (features: string[], device: string): Json => ({
    file: "m-webgpu-f32.wasm", weights_layout: LAYOUT, spec_digest: "b".repeat(64), target: { features, device },
  });

  test.each([
    [["shader-f16"], [], "m-webgpu.wasm"],
    [[], [], "m-webgpu-f32.wasm"],
    [["shader-f16", "subgroups"], ["shader-f16", "subgroups"], "m-webgpu-f32.wasm"],
    [["shader-f16"], ["subgroups"], "m-webgpu.wasm"],
    [[], ["shader-f16", "subgroups"], "m-webgpu.wasm"],
  ])("has a library for a GPU with %j and one that needs %j", async (present, needed, file) => {
    serve("", ({ manifest }) => {
      Object.assign(manifest!["libraries"] as Json, {
        "webgpu-f32": alternative(needed, "webgpu"),
        cpu: alternative([], "cpu"),
      });
      manifest!["files"] = { "m-webgpu-f32.wasm": { bytes: 4, sha256: LAYOUT } };
    });
    const artefact = await open(new Set(present));
    expect([artefact.library.file, artefact.name]).toEqual([file, "m"]);
  });

  test("of a new build drops the files of the old one", async () => {
    serve();
    const store = await FileStore.open(true);
    const first = await open();
    await fetchFile(first.shards[0]!, store);
    const kept = memory.entries.size;
    serve("", ({ chat }) => (chat!["temperature"] = 0.5));
    await open();
    expect(memory.entries.size).toBe(kept); // the shard stays, the chat config was replaced
    await store.forget(new URL("argosy-manifest.json", base));
    expect(memory.entries.size).toBe(0);
  });

  test("has an address", () => {
    expect(artefactUrl("https://a.example/m?x#y").href).toBe("https://a.example/m/");
    expect(() => artefactUrl("m")).toThrow("`m` is not a URL");
  });
});

describe("a file", () => {
  const shard = async (): Promise<Parameters<typeof fetchFile>[0]> => (await open()).shards[0]!;

  test("comes with progress, and the next time from the cache", async () => {
    serve();
    const source = await shard();
    const store = await FileStore.open(true);
    const seen: [number, boolean][] = [];
    const first = await fetchFile(source, store, { onBytes: (count, cached) => seen.push([count, cached]) });
    expect(seen.reduce((sum, [count]) => sum + count, 0)).toBe(4096);
    site.asked.length = 0;
    seen.length = 0;
    expect(await fetchFile(source, store, { onBytes: (count, cached) => seen.push([count, cached]) })).toEqual(first);
    expect(seen).toEqual([[4096, true]]);
    expect(site.asked).toEqual([]);
  });

  test("that was spoiled in the cache is fetched again", async () => {
    serve();
    const source = await shard();
    const store = await FileStore.open(true);
    await fetchFile(source, store);
    for (const [key, data] of memory.entries) if (key.endsWith(source.sha256)) data[7] = 255;
    expect((await fetchFile(source, store))[7]).toBe(7);
  });

  test("that cannot be kept is loaded all the same", async () => {
    serve();
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    const source = await shard();
    memory.full = true;
    const store = await FileStore.open(true);
    expect(await fetchFile(source, store)).toHaveLength(4096);
    expect(warn).toHaveBeenCalledOnce();
    expect(store.full).toBe(true);
  });

  test("that the browser cannot read any more is fetched again", async () => {
    serve();
    vi.spyOn(console, "warn").mockImplementation(() => undefined);
    await fetchFile(await shard(), await FileStore.open(true));
    memory.unreadable = true;
    const store = await FileStore.open(true);
    expect(await fetchFile((await openArtefact(base, store, HALVES)).shards[0]!, store)).toHaveLength(4096);
  });

  test("that is too large for the browser's memory", async () => {
    serve();
    const source = { ...(await shard()), bytes: Number.MAX_SAFE_INTEGER };
    await expect(fetchFile(source, await FileStore.open(true))).rejects.toMatchObject({
      message: "this browser has too little memory for `params_shard_0.bin`",
      hint: expect.stringContaining("smaller model"),
    });
  });

  test("that is cut off", async () => {
    serve();
    const source = await shard();
    site.broken.set("params_shard_0.bin", (response, data) => {
      response.writeHead(200, { "Content-Length": data.length });
      response.write(data.subarray(0, 1000), () => response.destroy());
    });
    await expect(fetchFile(source, await FileStore.open(true))).rejects.toMatchObject({
      message: expect.stringMatching(/was cut off: \d+ of 4096 bytes|could not be downloaded/),
      hint: expect.stringContaining("not downloaded again"),
    });
    expect([...memory.entries.keys()].some((key) => key.endsWith(source.sha256))).toBe(false);
  });

  test.each([
    ["shorter", (data: Uint8Array) => data.subarray(0, 99), "was cut off: 99 of 4096 bytes"],
    ["longer", (data: Uint8Array) => Buffer.concat([data, data]), "has more than the 4096 bytes"],
    ["altered", (data: Uint8Array) => data.map((byte, i) => (i === 5 ? 0 : byte)), "was altered"],
  ])("that is %s than it should be", async (_, spoil, message) => {
    serve();
    const source = await shard();
    site.files.set("params_shard_0.bin", spoil(site.files.get("params_shard_0.bin")!));
    await expect(fetchFile(source, await FileStore.open(true))).rejects.toThrow(message);
  });

  test("that a proxy holds in an older version is asked for past it", async () => {
    serve();
    const source = await shard();
    let times = 0;
    site.broken.set("params_shard_0.bin", (response, data) => response.end(times++ ? data : new Uint8Array(4096)));
    expect((await fetchFile(source, await FileStore.open(true)))[7]).toBe(7);
    expect(times).toBe(2);
  });

  test("is let go of when the caller gives up", async () => {
    serve();
    const source = await shard();
    site.broken.set("params_shard_0.bin", (response) => void response.writeHead(200).write("x"));
    const ending = new AbortController();
    const fetched = fetchFile(source, await FileStore.open(true), {
      signal: ending.signal,
      onBytes: () => ending.abort(new Error("enough")),
    });
    await expect(fetched).rejects.toThrow("enough");
  });

  test("work in parallel stops at the first error", async () => {
    const begun: number[] = [];
    const work = async (item: number): Promise<void> => {
      begun.push(item);
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (item === 1) throw new Error("one");
    };
    await expect(inParallel([0, 1, 2, 3, 4, 5, 6, 7], 2, work)).rejects.toThrow("one");
    expect(begun.length).toBeLessThan(5);
  });
});

describe("a GPU", () => {
  const adapter = (features: string[], limit: number): GPUAdapter =>
    ({
      features: new Set(features),
      limits: { maxBufferSize: limit, maxStorageBufferBindingSize: limit },
    }) as unknown as GPUAdapter;

  test("that a browser lacks", async () => {
    vi.stubGlobal("navigator", {});
    await expect(findAdapter()).rejects.toMatchObject({ message: "this browser has no WebGPU" });
    vi.stubGlobal("isSecureContext", false);
    await expect(findAdapter()).rejects.toMatchObject({ hint: "open it over https, or as http://localhost" });
    vi.stubGlobal("navigator", { gpu: { requestAdapter: async () => null } });
    await expect(findAdapter()).rejects.toThrow("but no GPU that it can use");
  });

  test.each([
    ["destroyed", "the GPU has too little memory for this model and its context"],
    ["unknown", "the browser took the GPU away: the driver was reset"],
  ])("that is lost: %s", async (reason, message) => {
    let lose: (info: object) => void = () => undefined;
    const device = { lost: new Promise((resolve) => (lose = resolve)), destroy: () => undefined };
    const gpu = new Gpu(device as unknown as GPUDevice, "test");
    expect((await gpu.explain(new Error("odd"), "it failed")).message).toBe("it failed: odd");
    lose({ reason, message: "the driver was reset" });
    expect((await gpu.explain(new Error("odd"), "it failed")).message).toBe(message);
    expect(() => gpu.check()).toThrow(message);
    expect(gpu.gone).toBe(true);
  });

  test("that is given back is not lost", async () => {
    let lose: (info: object) => void = () => undefined;
    const lost = new Promise((resolve) => (lose = resolve));
    const gpu = new Gpu({ lost, destroy: () => lose({ reason: "destroyed" }) } as unknown as GPUDevice, "test");
    gpu.destroy();
    await lost;
    expect([gpu.lost, gpu.gone]).toEqual([null, true]);
  });

  test("that has no memory for the context says so while the model is loaded", async () => {
    serve();
    let lose: (info: object) => void = () => undefined;
    const device = { lost: new Promise((resolve) => (lose = resolve)), destroy: () => undefined };
    const found = { ...adapter(["shader-f16"], 4096), requestDevice: async () => device };
    vi.stubGlobal("navigator", { gpu: { requestAdapter: async () => found } });
    const { library } = instantLibrary();
    Object.assign(library.metadata, { params: [] });
    Object.assign(library.instance, { getParamsFromCacheByName: () => ({}), tensorCacheClear: () => undefined });
    Object.assign(library, {
      compileShaders: async () => undefined,
      dispose: () => undefined,
      function: () => () => {
        lose({ reason: "destroyed" });
        throw new Error("TVM: check failed");
      },
    });
    vi.spyOn(Library, "load").mockResolvedValue(library);
    vi.spyOn(Tokenizer, "fromFiles").mockReturnValue({} as Tokenizer);
    await expect(loadModel(base)).rejects.toThrow("the GPU has too little memory for this model and its context");
    vi.restoreAllMocks();
  });

  test("that is too small for the model", async () => {
    serve();
    const artefact = await open();
    const refused = "cannot compute in 16-bit floats (shader-f16), and the artefact has no library without";
    expect(() => checkAdapter(adapter([], 1 << 30), artefact)).toThrow(refused);
    expect(() => checkAdapter(adapter(["shader-f16"], 1024), artefact)).toThrow("`w` takes 0.0 MiB, but this GPU's");
    expect(() => checkAdapter(adapter(["shader-f16"], 4096), artefact)).not.toThrow();
    expect(() => checkAdapter(adapter(["shader-f16"], 4096), { ...artefact, shards: [] })).not.toThrow();
    const [shard] = artefact.shards;
    const halves = { ...artefact, shards: [{ ...shard!, tensors: [{ ...shard!.tensors[0]!, dtype: "float16" }] }] };
    expect(() => checkAdapter(adapter(["shader-f16"], 4096), halves)).not.toThrow();
    const wide = { ...halves, library: { ...halves.library, features: [] } }; // twice as large in 32-bit floats
    expect(() => checkAdapter(adapter([], 4096), wide)).toThrow("`w` takes 0.0 MiB, but this GPU's");
    expect(() => checkAdapter(adapter([], 8192), wide)).not.toThrow();
  });
});
