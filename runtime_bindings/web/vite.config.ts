import { defineConfig } from "vite";

/** The library: two entry points with all that they need, for pages with or without a bundler of their own. */
export default defineConfig({
  build: {
    lib: { entry: { index: "src/index.ts", worker: "src/serve.ts" }, formats: ["es"] },
    target: "es2022",
    minify: false, // pages that bundle it make it smaller themselves
    sourcemap: true,
  },
  test: { include: ["test/unit/**/*.test.ts"] },
});
