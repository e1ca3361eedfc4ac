/** Load the artefact at `url` with the built binding in Chromium, and answer `prompts` in one conversation. */

import { addFolder, finish, launch, options, watchedPage } from "./chromium.mjs";

const { chromium, profile, driver, url, binding, prompts, generation, loads = 1 } = options();
const context = await launch({ executable: chromium, profile, driver });
const { page, seen } = await watchedPage(context);
await addFolder(page, url, "__test__/", binding, { "index.html": "<!doctype html><title>Transcript</title>" });
const runs = [];
for (let load = 0; load < loads; load++) {
  await page.goto(new URL("__test__/index.html", url).href);
  runs.push(await page.evaluate(talk, { url: new URL("artefact/", url).href, prompts, generation }));
}
await context.close();
finish({ ...runs.at(-1), runs, ...seen });

/** Runs in the page. Seconds count from the start of loading. */
async function talk({ url, prompts, generation }) {
  const { ChatModule } = await import("./index.js");
  const progress = [];
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const chat = await ChatModule.load(url, { onProgress: (report) => progress.push(report) });
  const loaded = seconds();
  const replies = [];
  for (const prompt of prompts) {
    const pieces = [];
    let first = null;
    for await (const piece of chat.generate(prompt, generation)) {
      first ??= seconds();
      pieces.push(piece);
    }
    replies.push({ ...chat.last, pieces, stats: chat.stats(), firstPiece: first, end: seconds() });
  }
  const { model } = chat;
  chat.unload();
  return { model, progress, loaded, replies };
}
