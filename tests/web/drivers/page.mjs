/**
 * Visit the chat page of `argosy web` (at `url`, its process is `server`), from the first load to being offline.
 * Screenshots go to `kept`.
 */

import path from "node:path";

import { audit } from "./audit.mjs";
import { answer, follow, load, reach, send, set, turns } from "./chat_page.mjs";
import { finish, launch, options, watchedPage } from "./chromium.mjs";

const { chromium, url, server, kept, question, settings } = options();
const context = await launch({ executable: chromium, viewport: { width: 1200, height: 800 }, colorScheme: "light" });
const { page, seen } = await watchedPage(context);
const get = (id) => page.getByTestId(id);
const shoot = (name) => page.screenshot({ path: path.join(kept, `${name}.png`), animations: "disabled" });
const result = { barriers: {} };

/** Take a screenshot and audit the page's accessibility. */
async function examine(name) {
  await shoot(name);
  result.barriers[name] = await audit(page);
}

/** Ask the question in a new conversation. */
async function ask() {
  await get("new-chat").click();
  await send(page, question);
  await page.waitForFunction(() => document.querySelector('[data-role="assistant"]'));
  return follow(page);
}

result.load = await load(page, url);
result.title = await get("model-name").innerText();
await examine("ready-light");

await set(page, settings);
result.first = await ask();
result.context = await get("context").innerText();
await examine("answer-light");

await page.emulateMedia({ colorScheme: "dark" });
await examine("answer-dark");
await get("settings").click();
await examine("settings-dark");
result.about = await get("about").innerText();
await page.keyboard.press("Escape");
await page.setViewportSize({ width: 390, height: 844 });
await shoot("answer-phone-dark");
await page.emulateMedia({ colorScheme: "light" });
await examine("answer-phone-light");
result.phoneOverflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
await page.setViewportSize({ width: 1200, height: 800 });

// The second turn continues the conversation; it is long, and Escape stops it.
await set(page, { max_tokens: 900 });
await send(page, "And now a long one.");
await reach(page, "generating");
await page.waitForFunction((count) => document.querySelectorAll('[data-testid="message"]').length === count, 4);
const stopped = performance.now();
const running = await follow(page, ({ text }) => text.length > 20);
await shoot("streaming-light");
await page.keyboard.press("Escape");
result.stopped = { ...(await follow(page)), wasRunning: running.busy };
result.stopSeconds = (performance.now() - stopped) / 1000;
result.turnsBefore = await turns(page);
await shoot("stopped-light");

await get("new-chat").click();
result.turnsAfter = await turns(page);
await set(page, settings);
result.again = await ask();

seen.requests.length = 0;
result.reload = await load(page, url);
result.requestsOfReload = [...seen.requests];
result.turnsAfterReload = await turns(page);
result.reloaded = await ask();

process.kill(server, "SIGINT");
await new Promise((resolve) => setTimeout(resolve, 1500));
seen.errors.length = 0;
result.offlineProbe = await page.evaluate((url) => fetch(`${url}artefact/nothing`).then(() => "reached", () => "offline"), url);
result.offline = await load(page, url);
result.offlineAnswer = await ask();
await shoot("offline-light");
result.last = await answer(page);

await context.close();
finish(result);
