/** Read an artefact's manifest, weight list and chat config from a base URL, and check them. */
import { type Source, fetchFile } from "./download.js";
import { ArgosyError } from "./errors.js";
import { type Fields, isFileName, isObject, parsedText, Reader } from "./records.js";
import { FileStore } from "./store.js";

/** The version of the artefact format that this package reads. */
export const ABI = 1;
export const DEVICE = "webgpu";
const MANIFEST = "argosy-manifest.json";
/** Where files are, relative to the base URL: as `argosy build` writes them, or as model hubs serve them. */
const LAYOUTS = ["", "resolve/main/"];
const BROKEN = "build the artefact again, and copy all of it to the server";

/** One tensor in a shard; `offset` and `nbytes` in bytes. */
export interface TensorRecord {
  name: string;
  shape: number[];
  dtype: string;
  offset: number;
  nbytes: number;
}

/** One file of weights. */
export interface Shard extends Source {
  tensors: TensorRecord[];
}

/** The manifest's entry for the library that was chosen for this GPU. */
export interface LibraryRecord extends Source {
  target: string;
  features: string[];
  weightsLayout: string;
  specDigest: string;
}

/** The fields of `mlc-chat-config.json` that this package uses. */
export interface ChatConfig {
  modelType: string;
  quantization: string;
  vocabSize: number;
  contextWindowSize: number;
  bosToken: number | null;
  eosTokens: number[];
  sampling: Reader;
}

export interface Artefact {
  base: URL;
  name: string;
  library: LibraryRecord;
  shards: Shard[];
  weightBytes: number;
  config: ChatConfig;
  /** `tokenizer.json`, then `tokenizer_config.json` and `chat_template.jinja` if the model has them. */
  tokenizerFiles: Source[];
}

/** Resolve an artefact's URL against this page, with a slash at the end, as a directory has. */
export function artefactUrl(url: string | URL): URL {
  try {
    const found = new URL(url, globalThis.location?.href);
    if (!found.pathname.endsWith("/")) found.pathname += "/";
    found.hash = found.search = "";
    return found;
  } catch {
    throw new ArgosyError(`\`${url}\` is not a URL`, "give the address of an artefact's directory");
  }
}

/** List the URLs at which the manifest of the artefact at `url` may be. */
export function manifestPlaces(url: URL): URL[] {
  return LAYOUTS.map((layout) => new URL(MANIFEST, new URL(layout, url)));
}

/**
 * Fetch and check the lists of the artefact at `url`; take them from `store` if the network fails. The artefact's library
 * is the one that makes the most of a GPU with `features`.
 */
export async function openArtefact(
  url: URL,
  store: FileStore,
  features: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<Artefact> {
  const [base, manifest] = await readManifest(url, store, signal);
  const files = new Map(manifest.entries("files"));
  const source = (name: string): Source => {
    const record = isFileName(name) ? files.get(name) : undefined;
    if (!record) throw new ArgosyError(`\`${MANIFEST}\` has no entry for \`${name}\``, BROKEN);
    return { url: new URL(name, base), file: name, bytes: record.count("bytes"), sha256: record.sha256("sha256") };
  };
  const json = async (name: string): Promise<Reader> => {
    const bytes = await fetchFile(source(name), store, { signal });
    return new Reader(parsed(bytes, name), name, BROKEN);
  };
  const library = libraryOf(manifest, features, source);
  const [chat, cache] = await Promise.all([json("mlc-chat-config.json"), json("tensor-cache.json")]);
  const weights = manifest.child("weights");
  if (weights.sha256("layout") !== library.weightsLayout) {
    const message = `the library \`${library.file}\` was compiled for other weights than those at \`${base}\``;
    throw new ArgosyError(message, "run `argosy build --target webgpu` again");
  }
  const shards = cache.children("records").map((shard) => shardOf(shard, source));
  return {
    base,
    name: library.file.replace(new RegExp(`-${library.target}\\.wasm$`), ""),
    library,
    shards,
    weightBytes: shards.reduce((sum, shard) => sum + shard.bytes, 0),
    config: chatConfig(chat),
    tokenizerFiles: tokenizerNames(chat).map(source),
  };
}

/** Find the layout and read the manifest: a fresh one from the network, or else the last one stored. */
async function readManifest(url: URL, store: FileStore, signal?: AbortSignal): Promise<[URL, Reader]> {
  let unreachable: unknown;
  for (const place of manifestPlaces(url)) {
    const base = new URL(".", place);
    try {
      const response = await fetch(place, { cache: "no-cache", ...(signal && { signal }) });
      const bytes = response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
      const manifest = bytes && manifestIn(bytes);
      if (!bytes || !manifest) continue;
      await store.keepList(place, bytes);
      return [base, manifest];
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof ArgosyError) throw error;
      unreachable = error;
      const known = await store.list(place);
      const manifest = known && manifestIn(known);
      if (manifest) return [base, manifest];
    }
  }
  if (unreachable !== undefined) {
    const message = `\`${url}\` cannot be reached, and nothing of it is in the browser's cache`;
    throw new ArgosyError(message, "check the connection and the address; another origin's server must allow CORS");
  }
  throw new ArgosyError(
    `there is no artefact at \`${url}\`: \`${MANIFEST}\` was not found`,
    "serve a directory that `argosy build --target webgpu` made, with `argosy web` or any static server",
  );
}

/** Parse a manifest; null for anything else, such as the page that a server sends for unknown paths. */
function manifestIn(bytes: Uint8Array): Reader | null {
  let values: Fields;
  try {
    values = parsed(bytes, MANIFEST);
  } catch {
    return null;
  }
  const manifest = new Reader(values, MANIFEST, BROKEN);
  if (manifest.integer("abi") !== ABI) {
    const message = `the artefact has ABI ${manifest.integer("abi")}, but this page reads ABI ${ABI}`;
    throw new ArgosyError(message, "build artefact and page with the same version of Argosy");
  }
  return manifest;
}

function libraryOf(manifest: Reader, features: ReadonlySet<string>, source: (name: string) => Source): LibraryRecord {
  for (const stage of ["weights", "config"]) {
    if (!isObject(manifest.values[stage])) {
      const hint = "run the same `argosy build` again: it resumes where it stopped";
      throw new ArgosyError(`the artefact is half-built: its ${stage} stage is not complete`, hint);
    }
  }
  const libraries = manifest.entries("libraries");
  const [library] = libraries
    .filter(([target, library]) => deviceOf(target, library) === DEVICE)
    .map(([target, library]) => ({ target, library, features: library.child("target").texts("features") }))
    .sort((one, other) => preference(other.features, features) - preference(one.features, features));
  if (!library) {
    const held = libraries.map(([target]) => target).join(", ") || "none";
    const hint = "run `argosy build --target webgpu` for the same model and scheme";
    throw new ArgosyError(`the artefact holds no library for \`${DEVICE}\`; it holds ${held}`, hint);
  }
  return {
    ...source(library.library.fileName("file")),
    target: library.target,
    features: library.features,
    weightsLayout: library.library.sha256("weights_layout"),
    specDigest: library.library.text("spec_digest"),
  };
}

/** The kind of device that a library is for; manifests of older versions do not say. */
function deviceOf(target: string, library: Reader): unknown {
  const described = library.values["target"];
  return (isObject(described) && described["device"]) || target;
}

/** Rank a library that needs the features `needed`: the more of the GPU it uses the better; those it cannot run come last. */
function preference(needed: readonly string[], present: ReadonlySet<string>): number {
  return needed.every((feature) => present.has(feature)) ? needed.length : -needed.length;
}

/**
 * Whether `library` reads a tensor that is stored in 16-bit floats in 32-bit ones. Shaders without the feature `shader-f16`
 * have no others.
 */
export function isWidened(tensor: Pick<TensorRecord, "dtype">, library: Pick<LibraryRecord, "features">): boolean {
  return tensor.dtype === "float16" && !library.features.includes("shader-f16");
}

function shardOf(shard: Reader, source: (name: string) => Source): Shard {
  const file = source(shard.fileName("dataPath"));
  const sha256 = shard.values["sha256"] ?? file.sha256;
  if (shard.count("nbytes") !== file.bytes || sha256 !== file.sha256) {
    throw new ArgosyError(`the artefact's two lists disagree about the digest of \`${file.file}\``, BROKEN);
  }
  const tensors = shard.children("records").map((record) => {
    const tensor = {
      name: record.text("name"),
      shape: record.counts("shape"),
      dtype: record.text("dtype"),
      offset: record.count("byteOffset"),
      nbytes: record.count("nbytes"),
    };
    if (record.values["format"] !== "raw") throw record.wrong("format", "`raw`");
    if (tensor.offset + tensor.nbytes > file.bytes) {
      throw new ArgosyError(`the tensor \`${tensor.name}\` ends beyond its shard \`${file.file}\``, BROKEN);
    }
    return tensor;
  });
  return { ...file, tensors };
}

function chatConfig(chat: Reader): ChatConfig {
  const eos = chat.values["eos_token_id"] ?? [];
  const template = chat.values["conv_template"];
  const more = isObject(template) && Array.isArray(template["stop_token_ids"]) ? template["stop_token_ids"] : [];
  return {
    modelType: chat.text("model_type"),
    quantization: chat.text("quantization"),
    vocabSize: chat.count("vocab_size"),
    contextWindowSize: chat.count("context_window_size"),
    bosToken: chat.values["bos_token_id"] === undefined ? null : chat.count("bos_token_id"),
    eosTokens: [
      ...(Array.isArray(eos) ? chat.counts("eos_token_id") : [chat.count("eos_token_id")]),
      ...more.filter((token) => Number.isSafeInteger(token)), // where MLC keeps some of them
    ],
    sampling: chat,
  };
}

/** The tokenizer files that this package uses. */
function tokenizerNames(chat: Reader): string[] {
  const known = chat.texts("tokenizer_files");
  if (!known.includes("tokenizer.json")) throw chat.wrong("tokenizer_files", "complete: it lacks `tokenizer.json`");
  return ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"].filter((name) => known.includes(name));
}

/** Parse `bytes` as a JSON object. */
export function parsed(bytes: Uint8Array, file: string): Fields {
  return parsedText(new TextDecoder().decode(bytes), file, BROKEN);
}
