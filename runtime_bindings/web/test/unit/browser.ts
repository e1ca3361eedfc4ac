/** Fakes of browser interfaces that Node lacks, and a server whose responses a test controls. */
import http from "node:http";
import type { AddressInfo } from "node:net";

/** Cache Storage in memory. */
export class MemoryCaches {
  readonly entries = new Map<string, Uint8Array<ArrayBuffer>>();
  full = false;
  unreadable = false;

  async open(): Promise<unknown> {
    const { entries } = this;
    const key = (request: string | { url: string }): string => (typeof request === "string" ? request : request.url);
    return {
      match: async (request: string | { url: string }) => {
        if (this.unreadable) throw new DOMException("unexpected internal error", "UnknownError");
        const found = entries.get(key(request));
        return found && new Response(found);
      },
      put: async (request: string, response: Response) => {
        if (this.full) throw new DOMException("no room", "QuotaExceededError");
        entries.set(key(request), new Uint8Array(await response.arrayBuffer()));
      },
      delete: async (request: string) => entries.delete(key(request)),
      keys: async () => [...entries.keys()].map((url) => ({ url })),
    };
  }
}

/** Serve `files`; `broken` overrides the response for a path. `asked` lists the requested paths. */
export class Site {
  readonly files = new Map<string, Uint8Array>();
  readonly broken = new Map<string, (response: http.ServerResponse, data: Uint8Array) => void>();
  readonly asked: string[] = [];
  private readonly server = http.createServer((request, response) => {
    const path = (request.url ?? "/").slice(1);
    this.asked.push(path);
    const data = this.files.get(path);
    const how = this.broken.get(path);
    if (how) how(response, data ?? new Uint8Array());
    else if (data) response.writeHead(200, { "Content-Length": data.length }).end(data);
    else response.writeHead(404, { "Content-Type": "text/html" }).end("<!doctype html>not here");
  });

  async start(): Promise<URL> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return new URL(`http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
