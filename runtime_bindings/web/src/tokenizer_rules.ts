/**
 * Accept a `tokenizer.json` from a stranger only with the steps and sizes that models need. The same rules as
 * `argosy/support/tokenizer_rules.py`, which explains them; both are tested with the same tokenizers.
 */
import { oneLine } from "./errors.js";
import { type Fields, isObject } from "./records.js";
import { shortestMatch } from "./regex_cost.js";

const STEPS = 24;
const DEPTH = 4;
const GROWTH = 64;
const NORMAL_FORMS = 4;
const AFFIX = 64;
const SPECIAL = 64;
const WORD = 512;
const PIECE = 512;
const TOKENS = 1 << 19;
const MERGES = 8;
const ADDED = 1 << 15;
const ADDED_CHARACTERS = 1 << 20;
const NUMBER = 1 << 24;
/** The growth of sentencepiece's usual map, which is the one that the library here applies. */
const CHARSMAP = 11;

const names = (text: string): ReadonlySet<string> => new Set(text.split(" "));
/** For each part of a tokenizer, the key of its sequences, and the kinds of its steps. */
const PARTS: Readonly<Record<string, readonly [string, ReadonlySet<string>]>> = {
  normalizer: [
    "normalizers",
    names("BertNormalizer ByteLevel Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace Strip StripAccents"),
  ],
  pre_tokenizer: [
    "pretokenizers",
    names(
      "BertPreTokenizer ByteLevel CharDelimiterSplit Digits FixedLength Metaspace Punctuation Split UnicodeScripts " +
        "Whitespace WhitespaceSplit",
    ),
  ],
  post_processor: ["processors", names("BertProcessing ByteLevel RobertaProcessing TemplateProcessing")],
  decoder: ["decoders", names("BPEDecoder ByteFallback ByteLevel Fuse Metaspace Replace Strip WordPiece")],
};
const MODELS = names("BPE Unigram WordLevel WordPiece");
const AFFIXES = ["prefix", "suffix", "prepend", "content", "replacement", "delimiter", "word_delimiter_token", "cls", "sep"];
const encoder = new TextEncoder();

/** Check a parsed `tokenizer.json`. Throws an Error whose message follows "the tokenizer". */
export function checkTokenizer(tokenizer: Fields): void {
  const steps = new Map(Object.keys(PARTS).map((part) => [part, stepsOf(tokenizer[part], part, 0)]));
  const every = [...steps.values()].flat();
  if (every.length > STEPS) throw new Error(`has \`${every.length}\` steps, more than ${STEPS}`);
  every.forEach(checkStep);
  for (const parts of [["normalizer", "pre_tokenizer"], ["decoder"]]) {
    const growth = parts.flatMap((part) => steps.get(part) ?? []).reduce((product, step) => product * growthOf(step), 1);
    if (growth > GROWTH) throw new Error(`makes texts \`${Math.round(growth)}\` times as long, more than ${GROWTH}`);
  }
  if (every.filter((step) => String(step["type"]).startsWith("NF")).length > NORMAL_FORMS) {
    throw new Error(`normalizes texts more than ${NORMAL_FORMS} times`);
  }
  checkModel(tokenizer["model"]);
  checkAdded(tokenizer["added_tokens"]);
}

/** Return the steps of a part, which is a single one or sequences of them. */
function stepsOf(value: unknown, part: string, depth: number): Fields[] {
  if (value === undefined || value === null) return [];
  if (!isObject(value) || typeof value["type"] !== "string") {
    throw new Error(`has \`${shown(value)}\` as a step of its ${part}, which has no type`);
  }
  const kind = value["type"];
  const [key, kinds] = PARTS[part] as [string, ReadonlySet<string>];
  if (kind !== "Sequence") {
    if (!kinds.has(kind)) throw new Error(`has the ${part} \`${oneLine(kind)}\`, which no model that is supported needs`);
    return [value];
  }
  const children = value[key];
  if (depth === DEPTH || !Array.isArray(children)) {
    throw new Error(`has a ${part} of sequences nested more than ${DEPTH} deep or without steps`);
  }
  return children.slice(0, STEPS + 1).flatMap((child) => stepsOf(child, part, depth + 1));
}

function checkStep(step: Fields): void {
  const kind = step["type"] as string;
  for (const key of AFFIXES) {
    const value = step[key];
    if (typeof value === "string" && length(value) > AFFIX) {
      throw new Error(`has a \`${kind}\` with a text of \`${length(value)}\` characters, more than ${AFFIX}`);
    }
  }
  if (kind === "Strip") {
    for (const key of ["start", "stop"]) {
      if (!between(step[key] ?? 0, 0, AFFIX)) {
        throw new Error(`has a \`Strip\` with \`${shown(step[key])}\` characters, more than ${AFFIX}`);
      }
    }
  } else if (kind === "FixedLength") {
    if (!between(step["length"] ?? 5, 1, NUMBER)) {
      throw new Error(`cuts texts to \`${shown(step["length"])}\` characters, which is not a length`);
    }
  } else if (kind === "TemplateProcessing") {
    checkTemplate(step);
  } else if (kind === "BertProcessing" || kind === "RobertaProcessing") {
    for (const key of ["sep", "cls"]) {
      const pair = step[key];
      if (!Array.isArray(pair) || pair.length !== 2 || !between(pair[1], 0, NUMBER)) {
        throw new Error(`has \`${shown(pair)}\` as its \`${key}\`, which is not a token`);
      }
    }
  } else if (kind === "Split") {
    patternOf(step);
  }
}

/** The text once, and few special tokens around it. */
function checkTemplate(step: Fields): void {
  for (const [name, texts] of [["single", 1], ["pair", 2]] as const) {
    const pieces = step[name];
    if (!Array.isArray(pieces) || pieces.length > SPECIAL) {
      throw new Error(`has a template \`${name}\` that is not a list of at most ${SPECIAL} pieces`);
    }
    if (pieces.filter((piece) => isObject(piece) && "Sequence" in piece).length > texts) {
      throw new Error(`has a template \`${name}\` that repeats the text`);
    }
  }
  const special = step["special_tokens"];
  const tokens = isObject(special) ? Object.values(special) : null;
  if (!tokens || tokens.length > SPECIAL || !tokens.every((token) => isObject(token) && areNumbers(token["ids"]))) {
    throw new Error(`has a template without its special tokens, or with more than ${SPECIAL}`);
  }
}

/** Return how many times the bytes of a text a step may return, apart from what it puts before the whole. */
function growthOf(step: Fields): number {
  const kind = step["type"];
  if (kind === "ByteLevel") return 2;
  if (kind === "Precompiled") return CHARSMAP;
  if (kind === "Metaspace") return Math.max(1, bytes(step["replacement"]));
  if (kind !== "Replace") return 1;
  const least = patternOf(step);
  if (!least) throw new Error("has a `Replace` of nothing, which would insert a text everywhere");
  return Math.max(1, bytes(step["content"]) / least);
}

/** Check the pattern of a step, and return the bytes of its shortest match. */
function patternOf(step: Fields): number {
  const pattern = step["pattern"];
  const entries = isObject(pattern) ? Object.entries(pattern) : [];
  const [kind, value] = entries[0] ?? [];
  if (entries.length !== 1) {
    throw new Error(`has the pattern \`${shown(pattern)}\`, which is neither a text nor an expression`);
  }
  if (kind === "String" && typeof value === "string" && value && length(value) <= PIECE) return bytes(value);
  if (kind !== "Regex" || typeof value !== "string") {
    throw new Error(`has the pattern \`${shown(pattern)}\`, which is no text of 1 to ${PIECE} characters`);
  }
  try {
    return shortestMatch(value);
  } catch (error) {
    throw new Error(`has the regular expression \`${oneLine(value).slice(0, 60)}\`, which ${(error as Error).message}`);
  }
}

function checkModel(model: unknown): void {
  if (!isObject(model)) throw new Error("has no model");
  const kind = model["type"] ?? ("merges" in model ? "BPE" : undefined);
  if (kind !== undefined && !(typeof kind === "string" && MODELS.has(kind))) {
    throw new Error(`has the model \`${shown(kind)}\`, it must be one of ${[...MODELS].join(", ")}`);
  }
  const dropout = model["dropout"] ?? 0;
  if (dropout !== 0) throw new Error(`drops merges at random: \`dropout\` is \`${shown(dropout)}\`, it must be null`);
  const prefix = model["continuing_subword_prefix"];
  if ((kind === "BPE" || kind === undefined) && prefix !== undefined && prefix !== null && prefix !== "") {
    throw new Error(`has \`${shown(prefix)}\` as \`continuing_subword_prefix\` of BPE, it must be null`);
  }
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    const affix = model[key];
    if (typeof affix === "string" && length(affix) > AFFIX) {
      throw new Error(`has a \`${key}\` of \`${length(affix)}\` characters, more than ${AFFIX}`);
    }
  }
  if (!between(model["max_input_chars_per_word"] ?? 100, 1, WORD)) {
    throw new Error(`cuts words of \`${shown(model["max_input_chars_per_word"])}\` characters, more than ${WORD}`);
  }
  const size = checkVocabulary(model["vocab"], model["unk_id"]);
  const merges = model["merges"];
  if (Array.isArray(merges) && merges.length > MERGES * size) {
    throw new Error(`has \`${merges.length}\` merges for \`${size}\` tokens`);
  }
}

/** Check a vocabulary, and return its size. */
function checkVocabulary(vocabulary: unknown, unknown: unknown): number {
  const size = Array.isArray(vocabulary) ? vocabulary.length : isObject(vocabulary) ? Object.keys(vocabulary).length : 0;
  if (!size || size > TOKENS) throw new Error(`has no vocabulary, or one of more than ${TOKENS} tokens`);
  if (!Array.isArray(vocabulary)) {
    const wrong = Object.entries(vocabulary as Fields).find(([, number]) => !between(number, 0, NUMBER));
    if (wrong) throw new Error(`gives the token \`${oneLine(wrong[0]).slice(0, 60)}\` the number \`${shown(wrong[1])}\``);
    return size;
  }
  for (const piece of vocabulary as unknown[]) {
    const [text, score] = Array.isArray(piece) && piece.length === 2 ? (piece as unknown[]) : [];
    const isScore = typeof score === "number" && Math.abs(score) < 1e9;
    if (typeof text !== "string" || length(text) > PIECE || !isScore) {
      throw new Error(`has the piece \`${shown(piece)}\`, which is no text with a score`);
    }
  }
  if (unknown !== undefined && unknown !== null && !between(unknown, 0, size - 1)) {
    throw new Error(`has \`${shown(unknown)}\` as the number of its unknown token`);
  }
  return size;
}

function checkAdded(added: unknown): void {
  if (added === undefined || added === null) return;
  if (!Array.isArray(added) || added.length > ADDED) throw new Error(`has no list of at most ${ADDED} added tokens`);
  let total = 0;
  for (const token of added as unknown[]) {
    const content = isObject(token) ? token["content"] : undefined;
    if (!isObject(token) || typeof content !== "string" || !between(token["id"], 0, NUMBER)) {
      throw new Error(`has \`${shown(token)}\` among its added tokens`);
    }
    if (length(content) > PIECE) {
      throw new Error(`has an added token of \`${length(content)}\` characters, more than ${PIECE}`);
    }
    total += length(content);
  }
  if (total > ADDED_CHARACTERS) {
    throw new Error(`has added tokens of \`${total}\` characters, more than ${ADDED_CHARACTERS}`);
  }
}

function between(value: unknown, least: number, most: number): boolean {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function areNumbers(value: unknown): boolean {
  return Array.isArray(value) && value.length <= SPECIAL && value.every((number) => between(number, 0, NUMBER));
}

/** Count the characters of a text, as Python does. */
function length(text: string): number {
  return text.length > 2 * PIECE ? text.length : [...text].length;
}

function bytes(text: unknown): number {
  return typeof text === "string" ? encoder.encode(text).length : 0;
}

function shown(value: unknown): string {
  return oneLine(typeof value === "string" ? value : (JSON.stringify(value) ?? value)).slice(0, 60);
}
