import { fileURLToPath } from "node:url";

const binding = fileURLToPath(new URL("../../runtime_bindings/web/dist/index.js", import.meta.url));

/** Use the package in this checkout, and the model of a running `argosy web DIR --port 8000 --no-open`. */
export default {
  resolve: { alias: { "@argosy/web": binding } },
  server: { proxy: { "/artefact": "http://127.0.0.1:8000" }, fs: { allow: ["../.."] } },
  build: { target: "es2022" },
  worker: { format: "es" },
};
