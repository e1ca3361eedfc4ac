/** Build the chat page into the Python package's `argosy/web/static/`. `--mode fake` replaces the model by a fake. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ mode }) => ({
  root: here("."),
  base: "./",
  resolve: {
    alias: {
      "@argosy/web": here("../src/index.ts"),
      "#engine": here(mode === "fake" ? "./test/fake/engine.ts" : "./src/engine.ts"),
    },
  },
  plugins: [listFiles()],
  worker: { format: "es" as const },
  build: {
    outDir: here("../../../argosy/web/static"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rolldownOptions: {
      input: { page: here("index.html"), "service-worker": here("src/service-worker.ts") },
      output: {
        entryFileNames: ({ name }) => (name === "service-worker" ? "[name].js" : "assets/[name]-[hash].js"),
      },
    },
  },
  test: { root: here("."), environment: "jsdom", include: ["test/unit/*.test.ts"], testTimeout: 60_000 },
}));

/** Give the service worker the list of the page's files, and a digest of them all. */
function listFiles(): Plugin {
  return {
    name: "argosy-list-files",
    apply: "build",
    enforce: "post",
    generateBundle(_, bundle) {
      const worker = bundle["service-worker.js"];
      if (worker?.type !== "chunk") return;
      const digest = createHash("sha256");
      const files = readdirSync(here("public"));
      for (const name of files) digest.update(readFileSync(here(`public/${name}`)));
      for (const [name, file] of Object.entries(bundle).sort(([a], [b]) => a.localeCompare(b))) {
        digest.update(file.type === "chunk" ? file.code : file.source);
        if (file !== worker && name !== "index.html") files.push(name);
      }
      const constants = { PAGE_FILES: files, PAGE_DIGEST: digest.digest("hex").slice(0, 16) };
      worker.code = `const ${Object.entries(constants)
        .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
        .join(",")};${worker.code}`;
    },
  };
}
