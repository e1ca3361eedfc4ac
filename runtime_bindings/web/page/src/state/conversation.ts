/** Keep the conversation across reloads, and build the messages for the next question. */

import type { ChatStats, Message } from "@argosy/web";

import { keep, recall } from "./storage.js";

/** How an answer ended, if not in the usual way. */
export type Ending = "stopped" | "length" | "context" | "loop" | "failed";

export interface Turn {
  role: "user" | "assistant";
  content: string;
  stats?: TurnStats;
  ending?: Ending;
}

export type TurnStats = Pick<ChatStats, "completionTokens" | "decodeTokensPerSecond" | "timeToFirstToken">;

const ENDINGS: readonly unknown[] = ["stopped", "length", "context", "loop", "failed"];

/** This tab's conversation. */
export class Conversation {
  turns: Turn[];
  /** How many of the first turns did not fit into the browser's storage. */
  private dropped = 0;

  constructor(turns: Turn[] = recallTurns()) {
    this.turns = turns;
  }

  /**
   * Build the messages to send: the system prompt, if any, and the turns. A question without an answer is left out, since
   * many templates require alternating roles.
   */
  messages(system: string): Message[] {
    const unanswered = (place: number): boolean => this.turns[place]?.role === "assistant" && !this.turns[place].content;
    const spoken = this.turns.filter((_, place) => !unanswered(place) && !unanswered(place + 1));
    const messages: Message[] = spoken.map(({ role, content }) => ({ role, content }));
    return system.trim() === "" ? messages : [{ role: "system", content: system }, ...messages];
  }

  /** Return the last question alone, for a model that only continues texts. */
  question(): string {
    return this.turns.filter((turn) => turn.role === "user").at(-1)?.content ?? "";
  }

  ask(question: string): void {
    this.turns.push({ role: "user", content: question });
    this.save();
  }

  answer(turn: Turn): void {
    this.turns.push(turn);
    this.save();
  }

  /** Remove the last answer, so that its question can be asked again. */
  withdrawAnswer(): void {
    if (this.turns.at(-1)?.role === "assistant") this.turns.pop();
    this.save();
  }

  /** Remove the last question and return its text. */
  withdrawQuestion(): string {
    const last = this.turns.at(-1);
    if (last?.role !== "user") return "";
    this.turns.pop();
    this.save();
    return last.content;
  }

  /** Remove all turns and return them, so that this can be undone. */
  clear(): Turn[] {
    const turns = this.turns;
    this.restore([]);
    return turns;
  }

  restore(turns: Turn[]): void {
    this.turns = turns;
    this.dropped = 0;
    this.save();
  }

  /** Store the turns, for this tab and for new ones; if there is not enough room, only the latest. */
  save(): void {
    const { turns } = this;
    for (const place of ["sessionStorage", "localStorage"] as const) {
      while (!keep("conversation", turns.slice(this.dropped), place) && this.dropped < turns.length) {
        this.dropped += 2 * Math.ceil((turns.length - this.dropped) / 16); // in pairs, and in few steps: every try writes everything
      }
    }
  }
}

/** Read the turns of this tab before its reload, or else of the last visit, without malformed ones. */
export function recallTurns(): Turn[] {
  const kept = recall("conversation", "sessionStorage") ?? recall("conversation");
  return Array.isArray(kept) ? kept.flatMap((turn) => readTurn(turn)) : [];
}

function readTurn(value: unknown): Turn[] {
  if (typeof value !== "object" || value === null) return [];
  const { role, content, stats, ending } = value as Record<string, unknown>;
  if ((role !== "user" && role !== "assistant") || typeof content !== "string") return [];
  const turn: Turn = { role, content };
  if (ENDINGS.includes(ending)) turn.ending = ending as Ending;
  if (isStats(stats)) turn.stats = stats;
  return [turn];
}

function isStats(value: unknown): value is TurnStats {
  if (typeof value !== "object" || value === null) return false;
  const { completionTokens, decodeTokensPerSecond, timeToFirstToken } = value as Record<string, unknown>;
  return [completionTokens, decodeTokensPerSecond, timeToFirstToken].every((figure) => typeof figure === "number");
}
