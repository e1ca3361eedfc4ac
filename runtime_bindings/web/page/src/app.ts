/** Run a visit to the page: load the model, answer questions, recover from errors. */

import { type Engine, forgetModel, loadEngine } from "#engine";
import type { ChatStats, FinishReason, Message } from "@argosy/web";

import { Announcer } from "./state/announcer.js";
import { Conversation, type Ending, type Turn, type TurnStats } from "./state/conversation.js";
import { explain, isFatal } from "./state/problem.js";
import { LoadProgress } from "./state/progress.js";
import { LoopDetector } from "../../src/loops.js";
import { recallSettings } from "./state/settings.js";
import { counted } from "./state/units.js";
import { Composer } from "./view/composer.js";
import { byId, element } from "./view/dom.js";
import { LoadingCard } from "./view/loading.js";
import { Notice, Toast } from "./view/notice.js";
import { Scroller } from "./view/scroller.js";
import { SettingsPanel } from "./view/settings-panel.js";
import { type LiveAnswer, Thread } from "./view/thread.js";

type Phase = "loading" | "ready" | "generating" | "error";

const STATUS: Record<Phase, string> = {
  loading: "Loading the model",
  ready: "Ready",
  generating: "Answering",
  error: "Something went wrong",
};
const ENDINGS: Partial<Record<FinishReason, Ending>> = { length: "length", context: "context", cancelled: "stopped" };
const SUGGESTIONS = [
  "What is the capital of France?",
  "Explain in three sentences why the sky is blue.",
  "Write a short poem about a quiet harbour.",
];
/** Milliseconds between saves of an unfinished answer, so that a reload does not lose it. */
const SAVE_EVERY = 1000;

export class App {
  private readonly conversation = new Conversation();
  private readonly settings = recallSettings();
  private readonly loading = new LoadingCard();
  private readonly notice = new Notice();
  private readonly toast = new Toast();
  private readonly scroller = new Scroller();
  private readonly thread = new Thread(() => this.regenerate());
  private readonly composer = new Composer((text) => this.ask(text), () => this.engine?.chat.stop());
  private readonly panel = new SettingsPanel(this.settings, () => void this.forget());
  private readonly announcer = new Announcer((text) => (byId("announcer").textContent = text));
  private engine: Engine | undefined;
  private phase: Phase = "loading";
  private answered: Promise<void> = Promise.resolve();

  constructor(private readonly artefact: URL) {
    byId("new-chat").addEventListener("click", () => void this.newChat());
    for (const text of SUGGESTIONS) this.suggest(text);
    this.thread.show(this.conversation.turns);
    this.showWelcome();
  }

  /** Load the model, or show why it cannot be loaded. */
  async load(): Promise<void> {
    this.close();
    this.enter("loading");
    this.loading.begin();
    const progress = new LoadProgress();
    try {
      this.engine = await loadEngine(
        this.artefact,
        (report) => this.loading.show(progress.add(report, performance.now())),
        (error) => this.lost(error),
      );
    } catch (error) {
      this.loading.end();
      this.fail(error, () => void this.load());
      return;
    }
    this.loading.end();
    const { chat } = this.engine;
    byId("model-name").textContent = chat.model.name;
    document.title = `${chat.model.name} · Argosy`;
    this.panel.setModel(chat.model, chat.stats());
    this.composer.setPlaceholder(chat.model.completesOnly ? "Write a text for it to continue" : "Write a message");
    this.enter("ready");
    if (!chat.model.kept) this.toast.show("This browser has no room to keep the model, so your next visit will load it again.");
    if (document.activeElement === document.body) this.composer.focus();
  }

  private ask(question: string): void {
    this.conversation.ask(question);
    this.thread.addQuestion(question);
    this.showWelcome();
    this.answer();
  }

  private regenerate(): void {
    if (this.phase !== "ready") return;
    if (this.conversation.turns.at(-1)?.role === "assistant") {
      this.conversation.withdrawAnswer();
      this.thread.removeLast();
    }
    this.answer();
    this.composer.focus();
  }

  /** Answer the last question; `answered` settles when the answer has ended. */
  private answer(): void {
    const { engine } = this;
    if (engine === undefined) return;
    const { completesOnly } = engine.chat.model;
    const prompt = completesOnly ? this.conversation.question() : this.conversation.messages(this.settings.system);
    const turn: Turn = { role: "assistant", content: "", ending: "stopped" };
    this.conversation.answer(turn);
    const live = this.thread.beginAnswer();
    this.scroller.toEnd();
    this.enter("generating");
    const finish = (): void => {
      live.end(turn);
      this.conversation.save();
      this.announcer.end(performance.now());
    };
    this.answered = this.stream(engine, prompt, turn, live).then(
      () => {
        finish();
        this.enter("ready");
      },
      (error: unknown) => {
        turn.ending = "failed";
        finish();
        if (turn.content === "" && this.composer.isEmpty) this.takeBack();
        if (isFatal(error)) this.close();
        this.fail(error, () => void this.recover());
      },
    );
  }

  /** Put a question without any answer back into the message field, to be changed or sent again. */
  private takeBack(): void {
    this.conversation.withdrawAnswer();
    this.composer.suggest(this.conversation.withdrawQuestion());
    this.thread.show(this.conversation.turns);
    this.showWelcome();
  }

  private async stream(
    { chat }: Engine,
    prompt: string | readonly Message[],
    turn: Turn,
    live: LiveAnswer,
  ): Promise<void> {
    const draw = oncePerFrame(() => live.update(turn.content, figures(chat.stats())));
    let savedAt = performance.now();
    this.announcer.begin(savedAt);
    const loops = new LoopDetector();
    for await (const piece of chat.generate(prompt, { ...this.settings.generation })) {
      if (loops.add(piece)) chat.stop();
      const now = performance.now();
      turn.content += piece;
      this.announcer.add(piece, now);
      draw();
      if (now - savedAt > SAVE_EVERY) {
        savedAt = now;
        this.conversation.save();
      }
    }
    turn.stats = figures(chat.stats());
    const ending = chat.last === null ? undefined : ENDINGS[chat.last.finishReason];
    if (ending === undefined) delete turn.ending;
    else turn.ending = ending === "stopped" && loops.found !== null ? "loop" : ending;
    const { contextUsed, contextSize } = chat.stats();
    byId("context").textContent = `${contextUsed.toLocaleString("en-US")} of ${counted(contextSize, "token")}`;
  }

  /** Ask again after an error; load the model again if it failed. */
  private async recover(): Promise<void> {
    if (this.engine === undefined) await this.load();
    else this.enter("ready");
    if (this.conversation.turns.at(-1)?.ending === "failed") this.regenerate();
    else this.composer.send();
  }

  /** Handle the worker's death; a running answer fails on its own. */
  private lost(error: unknown): void {
    this.close();
    if (this.phase === "ready" || this.phase === "error") this.fail(error, () => void this.load());
  }

  private close(): void {
    this.engine?.close();
    this.engine = undefined;
  }

  private async newChat(): Promise<void> {
    this.engine?.chat.stop();
    await this.answered;
    const turns = this.conversation.clear();
    if (this.phase === "error" && this.engine !== undefined) this.enter("ready");
    this.thread.show([]);
    this.showWelcome();
    byId("context").textContent = "";
    this.composer.focus();
    if (turns.length === 0) return;
    this.toast.show("Conversation deleted.", {
      label: "Undo",
      run: () => {
        if (this.phase === "generating" || this.conversation.turns.length > 0) return;
        this.conversation.restore(turns);
        this.thread.show(turns);
        this.showWelcome();
      },
    });
  }

  private async forget(): Promise<void> {
    try {
      await forgetModel(this.artefact);
      this.toast.show("The model is removed from this browser. It works until you close this page.");
    } catch (error) {
      this.toast.show(explain(error).message);
    }
  }

  private fail(error: unknown, retry: () => void): void {
    this.enter("error");
    this.notice.show(explain(error), retry);
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    const status = byId("status");
    status.dataset["state"] = phase;
    status.textContent = STATUS[phase];
    if (phase !== "error") this.notice.hide();
    const alive = this.engine !== undefined;
    this.composer.set(phase === "ready" || (phase === "error" && alive), phase === "generating");
    document.body.dataset["phase"] = phase;
  }

  /** Show the welcome if there are no turns, or else the last turn. */
  private showWelcome(): void {
    const empty = this.conversation.turns.length === 0;
    byId("welcome").hidden = !empty;
    if (empty) this.scroller.toStart();
    else this.scroller.toEnd();
  }

  private suggest(text: string): void {
    const button = element("button", { type: "button", "data-testid": "suggestion" }, text);
    button.addEventListener("click", () => {
      if (this.phase === "ready") this.ask(text);
      else this.composer.suggest(text);
      this.composer.focus();
    });
    byId("suggestions").append(element("li", {}, button));
  }
}

/** Pick the figures shown below an answer. */
function figures({ completionTokens, decodeTokensPerSecond, timeToFirstToken }: ChatStats): TurnStats {
  return { completionTokens, decodeTokensPerSecond, timeToFirstToken };
}

/** Wrap `draw` to run at most once per frame. */
function oncePerFrame(draw: () => void): () => void {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
