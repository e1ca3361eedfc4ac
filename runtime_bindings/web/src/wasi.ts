/** Provide the little of an operating system that a library needs: a clock and a console. */

const SUCCESS = 0;
const BAD_FILE = 8;
const REALTIME = 0;

type Call = (...args: never[]) => number;

/** WASI preview 1, without files, arguments and environment. */
export class Wasi {
  /** The imports for `WebAssembly.instantiate`. */
  readonly imports: Record<string, Record<string, unknown>>;
  private memory: WebAssembly.Memory | null = null;
  private line = "";

  /** `log` receives every line that the library prints. */
  constructor(private readonly log: (line: string) => void) {
    const calls: Record<string, Call> = {
      clock_time_get: (clock: number, _precision: bigint, at: number) => this.time(clock, at),
      environ_sizes_get: (count: number, size: number) => this.words([count, 0], [size, 0]),
      environ_get: () => SUCCESS,
      args_sizes_get: (count: number, size: number) => this.words([count, 0], [size, 0]),
      args_get: () => SUCCESS,
      random_get: (at: number, size: number) => this.random(at, size),
      fd_write: (_file: number, parts: number, count: number, written: number) => this.write(parts, count, written),
      fd_close: () => BAD_FILE,
      fd_read: () => BAD_FILE,
      fd_seek: () => BAD_FILE,
      proc_exit: (code: number): never => {
        throw new Error(`the library ended with code ${code}: ${this.line}`);
      },
    };
    this.imports = { wasi_snapshot_preview1: calls, env: {} };
  }

  /** Start the library, before any other call into it. */
  start(instance: WebAssembly.Instance): void {
    this.memory = instance.exports["memory"] as WebAssembly.Memory;
    (instance.exports["_initialize"] as (() => void) | undefined)?.();
  }

  private view(): DataView {
    return new DataView((this.memory as WebAssembly.Memory).buffer);
  }

  private words(...values: [at: number, value: number][]): number {
    for (const [at, value] of values) this.view().setUint32(at, value, true);
    return SUCCESS;
  }

  private time(clock: number, at: number): number {
    const milliseconds = clock === REALTIME ? Date.now() : performance.now();
    this.view().setBigUint64(at, BigInt(Math.round(milliseconds * 1e6)), true);
    return SUCCESS;
  }

  private random(at: number, size: number): number {
    const bytes = new Uint8Array((this.memory as WebAssembly.Memory).buffer, at, size);
    for (let i = 0; i < size; i += 65536) crypto.getRandomValues(bytes.subarray(i, i + 65536));
    return SUCCESS;
  }

  /** Print `count` parts, given by their addresses and sizes. */
  private write(parts: number, count: number, written: number): number {
    const view = this.view();
    let total = 0;
    for (let i = 0; i < count; i++) {
      const at = view.getUint32(parts + 8 * i, true);
      const size = view.getUint32(parts + 8 * i + 4, true);
      this.line += new TextDecoder().decode(new Uint8Array(view.buffer, at, size));
      total += size;
    }
    const lines = this.line.split("\n");
    this.line = (lines.pop() as string).slice(-1000);
    lines.forEach((line) => this.log(line));
    return this.words([written, total]);
  }
}
