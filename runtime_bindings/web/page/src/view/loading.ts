/** The card that shows the progress of loading. */

import type { ProgressView } from "../state/progress.js";
import { byId } from "./dom.js";

export class LoadingCard {
  private readonly card = byId("loading");
  private readonly bar = byId<HTMLProgressElement>("progress");

  begin(): void {
    this.card.hidden = false;
    this.show({ fraction: 0, stage: "Looking for the model", detail: "" });
  }

  show({ fraction, stage, detail }: ProgressView): void {
    this.bar.value = fraction;
    byId("loading-stage").textContent = stage;
    byId("loading-percent").textContent = `${Math.floor(fraction * 100)} %`;
    byId("loading-detail").textContent = detail;
  }

  end(): void {
    this.card.hidden = true;
  }
}
