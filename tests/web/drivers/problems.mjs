/** Visit the chat page at `url` with the fault `what`; report what the page shows, and take a screenshot. */

import path from "node:path";

import { audit } from "./audit.mjs";
import { load, problem, reach } from "./chat_page.mjs";
import { finish, launch, options, watchedPage } from "./chromium.mjs";

const { chromium, url, kept, what } = options();

/** Faults of the server's response: how it changes the bytes of the first shard. */
const SPOILT = {
  truncated: (bytes) => bytes.subarray(0, bytes.length - 100),
  altered: (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([bytes.at(-1) ^ 1])]),
};

const context = await launch({
  executable: chromium,
  adapter: what !== "no-adapter",
  serviceWorkers: "block", // their requests would bypass the routes below
  viewport: { width: 1200, height: 800 },
});
const { page } = await watchedPage(context);
const shard = /params_shard_0\.bin/;
if (what in SPOILT) {
  await context.route(shard, async (route) => {
    const response = await route.fetch();
    const body = SPOILT[what](await response.body());
    await route.fulfill({ response, body, headers: { ...response.headers(), "content-length": `${body.length}` } });
  });
} else if (what === "no-webgpu") {
  // Chromium always has it: remove it from the page and its workers, as in older browsers.
  await context.addInitScript(() => delete Navigator.prototype.gpu);
  await context.route(/\/assets\/.*\.js/, async (route) => {
    const response = await route.fetch();
    const less = "if (self.WorkerNavigator) delete WorkerNavigator.prototype.gpu;";
    await route.fulfill({ response, body: `${less}\n${await response.text()}` });
  });
} else if (what === "unreachable") {
  await context.route(shard, (route) => route.abort("connectionfailed"));
}
const { seconds } = await load(page, url);
const result = { seconds, problem: await problem(page), state: await page.getByTestId("status").getAttribute("data-state") };
await page.screenshot({ path: path.join(kept, `problem-${what}.png`) });
result.barriers = await audit(page);

// A fault on the way to the server can pass; then trying again succeeds.
if (what in SPOILT || what === "unreachable") {
  await context.unroute(shard);
  await page.getByTestId("retry").click();
  await reach(page, "loading").catch(() => undefined);
  await reach(page, ["ready", "error"]);
  result.retried = { problem: await problem(page), state: await page.getByTestId("status").getAttribute("data-state") };
}
await context.close();
finish(result);
