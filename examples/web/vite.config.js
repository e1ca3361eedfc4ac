import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

/** Takes the package from this checkout, and the model from a running `argosy web DIR --port 8000 --no-open`. */
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  resolve: { alias: { "@argosy/web": fileURLToPath(new URL("../../runtime_bindings/web/dist/index.js", import.meta.url)) } },
  server: { proxy: { "/artefact": "http://127.0.0.1:8000" } },
  worker: { format: "es" },
});
