/** Options go in, a Chromium with or without WebGPU (on SwiftShader or lavapipe) comes out, driven by playwright-core. */

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

/** The options that pytest wrote to stdin. */
export const options = () => JSON.parse(fs.readFileSync(0, "utf8"));

/** Ends the program with its result, the last line of stdout. */
export function finish(result) {
  process.stdout.write(`\n${JSON.stringify(result)}\n`, () => process.exit(0));
}

/**
 * A browser context. `profile` is a folder that keeps its caches, by default a new one; `driver` a Vulkan driver to use in
 * the place of SwiftShader; `adapter: false` leaves out the flags without which headless Chromium has WebGPU and no
 * adapter. Other fields are Playwright's.
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

/** A page whose console, errors and requests are kept; they are also written to stderr as they come. */
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

/** Adds the files of a folder, and texts, to the origin `url` below `prefix`, as the page sees it. */
export async function addFolder(page, url, prefix, folder, texts = {}) {
  await page.route(`${new URL(prefix, url).href}**`, (route) => {
    const name = new URL(route.request().url()).pathname.split(`/${prefix}`)[1];
    const contentType = TYPES[path.extname(name)] ?? "application/octet-stream";
    return route.fulfill(name in texts ? { body: texts[name], contentType } : { path: path.join(folder, name), contentType });
  });
}
