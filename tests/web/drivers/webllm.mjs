/**
 * Load an artefact that `argosy web` serves at `url` with npm's unmodified `@mlc-ai/web-llm`, and answer `requests`.
 *
 * Requests are those of `engine.chat.completions.create`; for a streaming one, its pieces are returned.
 */

import path from "node:path";

import { addFolder, finish, launch, options, watchedPage, WEB } from "./chromium.mjs";

const { chromium, driver, url, library, features = [], requests } = options();
const context = await launch({ executable: chromium, driver });
const { page, seen } = await watchedPage(context);
const folder = path.join(WEB, "node_modules/@mlc-ai/web-llm/lib");
await addFolder(page, url, "__test__/", folder, { "index.html": "<!doctype html><title>WebLLM</title>" });
await page.goto(new URL("__test__/index.html", url).href);

const result = await page.evaluate(chat, { url, library, features, requests });
await context.close();
finish({ ...result, ...seen });

/** Runs in the page. */
async function chat({ url, library, features, requests }) {
  const { MLCEngine } = await import("./index.js");
  const reports = [];
  const base = `${url}artefact/`;
  const model = { model_id: "argosy", model: base, model_lib: base + library, required_features: features };
  const engine = new MLCEngine({
    appConfig: { model_list: [model] },
    initProgressCallback: (report) => reports.push(report.text),
    logLevel: "WARN",
  });
  const started = performance.now();
  await engine.reload("argosy");
  const loadSeconds = (performance.now() - started) / 1000;
  const replies = [];
  for (const request of requests) {
    const asked = performance.now();
    const reply = await engine.chat.completions.create(request);
    if (request.stream) {
      const pieces = [];
      for await (const chunk of reply) pieces.push(chunk.choices[0]?.delta.content ?? "");
      replies.push({ pieces, text: pieces.join(""), seconds: (performance.now() - asked) / 1000 });
    } else {
      const [{ message, logprobs, finish_reason }] = reply.choices;
      const seconds = (performance.now() - asked) / 1000;
      replies.push({ text: message.content, logprobs, finishReason: finish_reason, usage: reply.usage, seconds });
    }
    await engine.resetChat();
  }
  return { loadSeconds, reports, replies };
}
