/**
 * Run an artefact in Node.
 *
 *   node run.mjs ARTEFACT_DIR --prompt-ids 1,2,3 --tokens 32 --json    greedy token ids
 *   echo '{"prompts": ["Hi"], "generation": {}}' | node run.mjs ARTEFACT_DIR    a conversation
 *
 * The last line of the output is JSON. An ArgosyError is {"error": {"message", "hint"}}, with exit code 0.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ensureDriver, installWebGpu } from "./gpu.mjs";
import { serveDirectory } from "./serve.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "prompt-ids": { type: "string" },
    tokens: { type: "string", default: "32" },
    json: { type: "boolean", default: false },
  },
});
const [directory] = positionals;
if (!directory) {
  console.error("usage: node run.mjs ARTEFACT_DIR [--prompt-ids 1,2,3 [--tokens 32]] [--json]");
  process.exit(2);
}
ensureDriver();
const gpu = await installWebGpu();
const { ArgosyError, ChatModule, loadModel } = await import(
  path.join(path.dirname(fileURLToPath(import.meta.url)), "../../dist/index.js")
);
const { server, url } = await serveDirectory(directory);

/** Generate from token ids, at temperature 0. */
async function greedy(promptIds, count) {
  const model = await loadModel(url);
  const config = { ...NEUTRAL, max_tokens: count };
  const request = { prompt: promptIds, config, stopTokens: new Set(), protect: 0, cancelled: () => false };
  const ids = [];
  for await (const sample of model.engine.generate(request)) ids.push(sample.token);
  const { loadSeconds, shaderSeconds } = model;
  return { ids, loadSeconds, shaderSeconds, ...model.engine.stats, adapter: model.engine.library.gpu.description };
}

const NEUTRAL = {
  temperature: 0, top_k: 0, top_p: 1, min_p: 0, typical_p: 1, repetition_penalty: 1, presence_penalty: 0,
  frequency_penalty: 0, repeat_last_n: 64, logit_bias: {}, seed: null, logprobs: false, top_logprobs: 0,
  max_tokens: null, stop: [], ignore_eos: true, on_context_full: "stop",
};

/** Answer `prompts`: texts that continue the conversation, or lists of messages. */
async function converse({ prompts, generation = {}, load = {} }) {
  const progress = [];
  const chat = await ChatModule.load(url, { ...load, onProgress: (report) => progress.push(report) });
  const replies = [];
  for (const prompt of prompts) {
    for await (const piece of chat.generate(prompt, generation)) if (!options.json) process.stderr.write(piece);
    replies.push({ ...chat.last, stats: chat.stats() });
  }
  return { model: chat.model, progress, replies };
}

let result;
try {
  const ids = options["prompt-ids"];
  if (ids !== undefined) result = await greedy(ids.split(",").map(Number), Number(options.tokens));
  else result = await converse(JSON.parse(readFileSync(0, "utf-8")));
} catch (error) {
  if (!(error instanceof ArgosyError)) throw error;
  result = { error: { message: error.message, hint: error.hint } };
}
console.log(JSON.stringify(result));
server.close();
process.exit(gpu ? 0 : 1);
