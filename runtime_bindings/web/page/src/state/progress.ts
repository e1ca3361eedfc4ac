/** Reports of a load go in, in whatever order its parts run; what the bar and its two lines show comes out. */

import type { LoadProgress as Report } from "@argosy/web";

import { humanSize, timeLeft } from "./units.js";

type Stage = Report["stage"];

/** What each stage is called, and its share of the bar. Stages may run side by side. */
const STAGES: Record<Stage, { label: string; share: number }> = {
  library: { label: "Loading the library", share: 0.04 },
  tokenizer: { label: "Loading the tokenizer", share: 0.04 },
  weights: { label: "Loading the weights", share: 0.72 },
  shaders: { label: "Preparing the graphics processor", share: 0.2 },
};
/** The line is about the first of these that is under way, so that it does not jump between parallel stages. */
const ORDER: readonly Stage[] = ["weights", "library", "tokenizer", "shaders"];
/** A new measurement of speed counts this much against the old ones. */
const SMOOTHING = 0.3;
/** Milliseconds between two measurements: shorter ones say more about the clock than about the network. */
const MEASURE_EVERY = 400;

export interface ProgressView {
  /** Of the whole load, 0 to 1; never falls. */
  fraction: number;
  stage: string;
  /** `"81.2 MB of 271.0 MB · 12.3 MB/s · 16 s left"`; empty where nothing is known. */
  detail: string;
}

interface Measure {
  latest: Report;
  /** Units per second, smoothed; undefined before it can be told. */
  rate: number | undefined;
  at: number;
  from: number;
}

/** Follows one load. */
export class LoadProgress {
  private readonly stages = new Map<Stage, Measure>();
  private fraction = 0;

  /** Takes a report; `now` in milliseconds. */
  add(report: Report, now: number): ProgressView {
    const known = this.stages.get(report.stage);
    if (known === undefined) {
      const rate = report.bytesPerSecond;
      this.stages.set(report.stage, { latest: report, rate, at: now, from: report.loaded });
    } else {
      known.latest = report;
      if (report.bytesPerSecond !== undefined) known.rate = report.bytesPerSecond;
      else if (now - known.at >= MEASURE_EVERY) measure(known, now);
    }
    return this.view();
  }

  private view(): ProgressView {
    let fraction = 0;
    for (const [stage, { latest }] of this.stages) fraction += STAGES[stage].share * part(latest);
    this.fraction = Math.min(1, Math.max(this.fraction, fraction));
    const current = ORDER.map((stage) => this.stages.get(stage)).find((each) => each && part(each.latest) < 1);
    if (current === undefined) {
      const stage = this.stages.has("shaders") ? "Almost there" : STAGES.shaders.label;
      return { fraction: this.fraction, stage, detail: "" };
    }
    return { fraction: this.fraction, stage: STAGES[current.latest.stage].label, detail: describe(current) };
  }
}

function measure(stage: Measure, now: number): void {
  const rate = ((stage.latest.loaded - stage.from) * 1000) / (now - stage.at);
  stage.rate = stage.rate === undefined ? rate : stage.rate + SMOOTHING * (rate - stage.rate);
  stage.at = now;
  stage.from = stage.latest.loaded;
}

/** How much of a stage is done, 0 to 1; one of unknown size counts as begun. */
function part({ loaded, total }: Report): number {
  return total > 0 ? Math.min(1, Math.max(0, loaded / total)) : 0;
}

function describe({ latest, rate }: Measure): string {
  const { stage, loaded, total } = latest;
  const parts: string[] = [];
  if (stage === "shaders") {
    if (total > 0) parts.push(`${loaded} of ${total} programs`);
  } else {
    parts.push(total > 0 ? `${humanSize(loaded)} of ${humanSize(total)}` : humanSize(loaded));
    if (rate !== undefined && rate > 0) parts.push(`${humanSize(rate)}/s`);
  }
  if (rate !== undefined && rate > 0 && total > loaded) parts.push(`${timeLeft((total - loaded) / rate)} left`);
  return parts.join(" · ");
}
