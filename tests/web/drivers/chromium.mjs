/** Launch Chromium with playwright-core, with or without WebGPU (on SwiftShader or lavapipe). */

import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

export const WEB = path.resolve(import.meta.dirname, "../../../runtime_bindings/web");
const require = createRequire(path.join(WEB, "package.json"));
const { chromium } = require("playwright-core");

const ALWAYS = ["--headless=new", "--no-sandbox", "--ignore-gpu-blocklist", "--no-first-run", "--disable-quic"];
const WEBGPU = ["--enable-unsafe-webgpu", "--enable-features=Vulkan,WebGPU"];
const SWIFTSHADER = [...WEBGPU, "--use-webgpu-adapter=swiftshader"];
const NATIVE = [...WEBGPU, "--use-vulkan=native", "--use-gl=angle", "--use-angle=vulkan"];

/** Read the options that pytest writes to stdin. */
export const options = () => JSON.parse(fs.readFileSync(0, "utf8"));

/** End the program, printing its result as the last line of stdout. */
export function finish(result) {
  process.stdout.write(`\n${JSON.stringify(result)}\n`, () => process.exit(0));
}

/**
 * Open a browser context. `profile` is a folder for its caches, by default a new one; `driver` is a Vulkan driver to use
 * instead of SwiftShader; `adapter: false` omits the flags that give headless Chromium a WebGPU adapter. Other fields are
 * Playwright's.
 */
export async function launch({ executable, profile, driver = null, adapter = true, ...more }) {
  const folder = profile ?? fs.mkdtempSync(path.join(os.tmpdir(), "argosy-web-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: executable,
    headless: true,
    ignoreDefaultArgs: ["--disable-gpu", "--headless", "--enable-unsafe-swiftshader"],
    args: [...ALWAYS, ...(adapter ? (driver ? NATIVE : SWIFTSHADER) : [])],
    env: { ...process.env, ...(driver && { VK_ICD_FILENAMES: driver }) },
    timeout: 60_000,
    ...more,
  });
  return context;
}

/** Open a page and record its console, errors and requests; they also go to stderr. */
export async function watchedPage(context) {
  const page = await context.newPage();
  const seen = { errors: [], requests: [] };
  page.on("console", (message) => {
    console.error(`[${message.type()}] ${message.text().slice(0, 500)}`);
    if (message.type() === "error") seen.errors.push(message.text());
  });
  page.on("pageerror", (error) => {
    console.error(`[page error] ${error.stack}`);
    seen.errors.push(String(error));
  });
  page.on("request", (request) => seen.requests.push(request.url()));
  return { page, seen };
}

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

/** Add a folder's files, and texts, below `prefix` to the origin `url` that the page sees. */
export async function addFolder(page, url, prefix, folder, texts = {}) {
  await page.route(`${new URL(prefix, url).href}**`, (route) => {
    const name = new URL(route.request().url()).pathname.split(`/${prefix}`)[1];
    const contentType = TYPES[path.extname(name)] ?? "application/octet-stream";
    return route.fulfill(name in texts ? { body: texts[name], contentType } : { path: path.join(folder, name), contentType });
  });
}
