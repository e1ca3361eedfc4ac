/** Report bytes and shaders as they load, no more often than a page can draw. */
import type { LoadProgress } from "./types.js";

const PAUSE = 50; // milliseconds between two reports of a stage
const WINDOW = 3000; // milliseconds over which the speed is averaged

/** One stage of loading. */
export class Stage {
  private loaded = 0;
  private reported = -Infinity;
  private readonly recent: [time: number, bytes: number][] = [];

  constructor(
    private readonly name: LoadProgress["stage"],
    private readonly total: number,
    private readonly report: ((progress: LoadProgress) => void) | undefined,
  ) {}

  /** Add `count`; `cached` bytes do not count towards the network's speed. */
  add(count: number, cached: boolean): void {
    const now = performance.now();
    if (!cached) this.recent.push([now, count]);
    this.set(this.loaded + count, now);
  }

  /** Set the total. */
  set(loaded: number, now = performance.now()): void {
    this.loaded = loaded;
    if (!this.report || (now - this.reported < PAUSE && loaded !== this.total && loaded !== 0)) return;
    this.reported = now;
    const speed = this.speed(now);
    const { name: stage, total } = this;
    this.report(speed ? { stage, loaded, total, bytesPerSecond: speed } : { stage, loaded, total });
  }

  private speed(now: number): number {
    const { recent } = this;
    while (recent.length > 1 && now - (recent[0] as [number, number])[0] > WINDOW) recent.shift();
    const first = recent[0]?.[0] ?? now;
    const bytes = recent.slice(1).reduce((sum, [, count]) => sum + count, 0);
    return now > first ? Math.max(0, (bytes * 1000) / (now - first)) : 0;
  }
}
