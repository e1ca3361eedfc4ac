/** Show the turns of a conversation, the last one while it grows. */

import type { Ending, Turn, TurnStats } from "../state/conversation.js";
import { counted, humanRate, humanTime, wholeTime } from "../state/units.js";
import { AnswerView } from "./answer.js";
import { byId, copyButton, element, icon } from "./dom.js";

/** Show the elapsed time after this many seconds without a word. */
const PATIENCE = 4;
const ENDINGS: Record<Ending, string> = {
  stopped: "Stopped",
  length: "Reached the limit for an answer",
  loop: "Stopped: it says the same over and over",
  context: "Stopped because the context is full",
  failed: "Interrupted by an error",
};

/** `"27.9 tokens/s · first token after 0.4 s · 128 tokens"`. */
export function statsLine(stats: TurnStats): string {
  const parts: string[] = [];
  if (stats.decodeTokensPerSecond > 0) parts.push(`${humanRate(stats.decodeTokensPerSecond)} tokens/s`);
  if (stats.timeToFirstToken > 0) parts.push(`first token after ${humanTime(stats.timeToFirstToken)}`);
  parts.push(counted(stats.completionTokens, "token"));
  return parts.join(" · ");
}

/** Say why an answer ended; at the limit, which one, and where it can be changed. */
export function endingLine(ending: Ending, stats?: TurnStats): string {
  if (ending !== "length" || !stats) return ENDINGS[ending];
  return `${ENDINGS.length}, ${counted(stats.completionTokens, "token")}; the settings change it`;
}

/** An answer in progress. */
export interface LiveAnswer {
  /** Show the text and the figures so far. */
  update(text: string, stats: TurnStats): void;
  /** Show the finished answer. */
  end(turn: Turn): void;
}

export class Thread {
  private readonly list = byId<HTMLOListElement>("thread");

  /** `regenerate` asks the last question again. */
  constructor(private readonly regenerate: () => void) {}

  show(turns: readonly Turn[]): void {
    this.list.replaceChildren();
    for (const turn of turns) {
      if (turn.role === "user") this.addQuestion(turn.content);
      else this.beginAnswer().end(turn);
    }
  }

  addQuestion(text: string): void {
    const bubble = element("div", { class: "bubble" }, text);
    this.list.append(message("user", "You", bubble));
  }

  removeLast(): void {
    this.list.lastElementChild?.remove();
  }

  beginAnswer(): LiveAnswer {
    const body = element("div", { class: "answer", "data-testid": "answer" });
    const waiting = new Waiting();
    const figures = element("span", { class: "stats", "data-testid": "stats" });
    const foot = element("div", { class: "message-foot" }, figures);
    const item = message("assistant", "Model", waiting.element, body, foot);
    item.setAttribute("aria-busy", "true");
    this.list.append(item);
    const view = new AnswerView(body);
    let drawn = false;
    return {
      update: (text, stats) => {
        if (!drawn && text !== "") waiting.end();
        drawn ||= text !== "";
        view.update(text);
        figures.textContent = statsLine(stats);
      },
      end: (turn) => {
        waiting.end();
        item.removeAttribute("aria-busy");
        view.end(turn.content);
        foot.replaceChildren(...this.footer(turn));
      },
    };
  }

  private *footer(turn: Turn): Generator<Node> {
    const again = element("button", {
      type: "button",
      class: "quiet-button regenerate",
      "aria-label": "Answer again",
      "data-testid": "regenerate",
    });
    again.append(icon("again"), element("span", {}, "Again"));
    again.addEventListener("click", () => this.regenerate());
    const actions = element("div", { class: "actions" });
    if (turn.content !== "") {
      actions.append(copyButton("Copy this answer", () => turn.content, { "data-testid": "copy" }));
    }
    actions.append(again);
    yield actions;
    if (turn.ending) {
      yield element("span", { class: "ending", "data-testid": "ending" }, endingLine(turn.ending, turn.stats));
    }
    if (turn.stats) yield element("span", { class: "stats", "data-testid": "stats" }, statsLine(turn.stats));
  }
}

/** Three dots until the first word, joined after a while by the elapsed time. */
class Waiting {
  private readonly since = performance.now();
  private readonly time = element("p", { class: "waiting-time" });
  readonly element = element("div", { class: "waiting" }, element("i"), element("i"), element("i"), this.time);
  private readonly timer = setInterval(() => {
    const seconds = (performance.now() - this.since) / 1000;
    if (seconds > PATIENCE) this.time.textContent = `Reading the conversation, ${wholeTime(Math.round(seconds))} so far`;
  }, 1000);

  end(): void {
    clearInterval(this.timer);
    this.element.remove();
  }
}

function message(role: Turn["role"], speaker: string, ...content: Node[]): HTMLLIElement {
  const name = element("span", { class: "visually-hidden" }, `${speaker}: `);
  return element("li", { class: "message", "data-role": role, "data-testid": "message" }, name, ...content);
}
