/** Serve the files of a directory on the loopback interface. */
import { createReadStream, statSync } from "node:fs";
import http from "node:http";
import path from "node:path";

/** Start a server; resolves to it and its base URL. */
export function serveDirectory(directory) {
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://localhost").pathname.slice(1));
    const file = path.join(directory, name);
    const stat = /^[\w.-]+$/.test(name) && statSync(file, { throwIfNoEntry: false });
    if (!stat || !stat.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Length": stat.size });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve({ server, url: `http://127.0.0.1:${server.address().port}/` }));
  });
}
