/** Combine the reports of stages that load in any order into one progress bar with two lines of text. */

import type { LoadProgress as Report } from "@argosy/web";

import { humanSize, timeLeft } from "./units.js";

type Stage = Report["stage"];

/** The label of every stage and its share of the bar. Stages may run at the same time. */
const STAGES: Record<Stage, { label: string; share: number }> = {
  library: { label: "Loading the library", share: 0.04 },
  tokenizer: { label: "Loading the tokenizer", share: 0.04 },
  weights: { label: "Loading the weights", share: 0.72 },
  shaders: { label: "Preparing the GPU", share: 0.2 },
};
/** The line describes the first of these in progress, so that it does not jump between concurrent stages. */
const ORDER: readonly Stage[] = ["weights", "library", "tokenizer", "shaders"];
/** The weight of a new measurement of speed against the earlier ones. */
const SMOOTHING = 0.3;
/** Milliseconds between two measurements; shorter intervals measure the clock rather than the network. */
const MEASURE_EVERY = 400;

export interface ProgressView {
  /** The fraction of the whole load, 0 to 1; never decreases. */
  fraction: number;
  stage: string;
  /** `"81.2 MB of 271.0 MB · 12.3 MB/s · 16 s left"`; empty if nothing is known. */
  detail: string;
}

interface Measure {
  latest: Report;
  /** Units per second, smoothed; undefined until it is known. */
  rate: number | undefined;
  at: number;
  from: number;
}

/** Follows one load. */
export class LoadProgress {
  private readonly stages = new Map<Stage, Measure>();
  private fraction = 0;

  /** Add a report; `now` in milliseconds. */
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
    const current = ORDER.map((stage) => this.stages.get(stage)).find((state) => state && part(state.latest) < 1);
    if (current === undefined) {
      const stage = this.stages.has("shaders") ? "Finishing" : STAGES.shaders.label;
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

/** Compute the fraction of a stage, 0 to 1; one of unknown size counts as begun. */
function part({ loaded, total }: Report): number {
  return total > 0 ? Math.min(1, Math.max(0, loaded / total)) : 0;
}

function describe({ latest, rate }: Measure): string {
  const { stage, loaded, total } = latest;
  const parts: string[] = [];
  if (stage === "shaders") {
    if (total > 0) parts.push(`${loaded} of ${total} shaders`);
  } else {
    parts.push(total > 0 ? `${humanSize(loaded)} of ${humanSize(total)}` : humanSize(loaded));
    if (rate !== undefined && rate > 0) parts.push(`${humanSize(rate)}/s`);
  }
  if (rate !== undefined && rate > 0 && total > loaded) parts.push(`${timeLeft((total - loaded) / rate)} left`);
  return parts.join(" · ");
}
