import { defineConfig } from "vite";

/** Build the package: two self-contained entry points, for pages with or without a bundler. */
export default defineConfig({
  build: {
    lib: { entry: { index: "src/index.ts", worker: "src/serve.ts" }, formats: ["es"] },
    target: "es2022",
    minify: false, // pages that bundle it minify it themselves
    sourcemap: true,
  },
  test: { include: ["test/unit/**/*.test.ts"] },
});
