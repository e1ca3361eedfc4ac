/** Show problems with a button to try again, and short messages that disappear on their own. */

import type { Problem } from "../state/problem.js";
import { byId } from "./dom.js";

export class Notice {
  private readonly card = byId("notice");
  private retry: () => void = () => {};

  constructor() {
    byId("retry").addEventListener("click", () => {
      this.hide();
      this.retry();
    });
  }

  show({ message, hint }: Problem, retry: () => void): void {
    this.retry = retry;
    this.card.hidden = false;
    byId("notice-message").textContent = message;
    byId("notice-hint").textContent = hint;
  }

  hide(): void {
    this.card.hidden = true;
  }
}

/** A message that disappears by itself, unless hovered or focused, with an optional button to undo. */
export class Toast {
  private readonly box = byId("toast");
  private timer: ReturnType<typeof setTimeout> | undefined;
  private milliseconds = 0;

  constructor() {
    for (const arrival of ["focusin", "pointerenter"]) this.box.addEventListener(arrival, () => clearTimeout(this.timer));
    for (const leaving of ["focusout", "pointerleave"]) this.box.addEventListener(leaving, () => this.wait());
  }

  show(text: string, action?: { label: string; run: () => void }): void {
    this.box.replaceChildren(text);
    if (action) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset["testid"] = "undo";
      button.textContent = action.label;
      button.addEventListener("click", () => {
        this.hide();
        action.run();
      });
      this.box.append(button);
    }
    this.box.hidden = false;
    this.milliseconds = action ? 8000 : 4000;
    this.wait();
  }

  hide(): void {
    clearTimeout(this.timer);
    this.box.hidden = true;
  }

  private wait(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hide(), this.milliseconds);
  }
}
