/** The course of a visit: loading, ready, generating, error; and what each of them lets the reader do. */

import { type Engine, forgetModel, loadEngine } from "#engine";
import type { ChatStats, FinishReason, Message } from "@argosy/web";

import { Announcer } from "./state/announcer.js";
import { Conversation, type Ending, type Turn, type TurnStats } from "./state/conversation.js";
import { explain, isFatal } from "./state/problem.js";
import { LoadProgress } from "./state/progress.js";
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
  error: "Needs your attention",
};
const ENDINGS: Partial<Record<FinishReason, Ending>> = { length: "length", context: "context", cancelled: "stopped" };
const SUGGESTIONS = [
  "What is the capital of France?",
  "Explain in three sentences why the sky is blue.",
  "Write a short poem about a quiet harbour.",
];
/** Milliseconds between two times that an answer that is being written is kept for after a reload. */
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

  /** Loads the model, or says why not. */
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
    this.composer.setPlaceholder(chat.model.completesOnly ? "Write the beginning of a text" : "Write a message");
    this.enter("ready");
    if (!chat.model.kept) this.toast.show("This browser has no room to keep the model: the next visit loads it again.");
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

  /** Answers the last question; `answered` is settled when nothing more comes. */
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

  /** A question that got no answer at all goes back to where it was written, to be changed or sent again. */
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
    for await (const piece of chat.generate(prompt, { ...this.settings.generation })) {
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
    else turn.ending = ending;
    const { contextUsed, contextSize } = chat.stats();
    byId("context").textContent = `${contextUsed.toLocaleString("en-US")} of ${counted(contextSize, "token")}`;
  }

  /** Asks again after an error: of the same model, unless that is what failed. */
  private async recover(): Promise<void> {
    if (this.engine === undefined) await this.load();
    else this.enter("ready");
    if (this.conversation.turns.at(-1)?.ending === "failed") this.regenerate();
    else this.composer.send();
  }

  /** The worker died; an answer that is under way hears of it by itself. */
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
    this.toast.show("The conversation is gone.", {
      label: "Bring it back",
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
      this.toast.show("The model is removed. It works until you close this page.");
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

  /** The welcome where there are no turns, else the last of them. */
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

/** Of all figures, those that stand below an answer. */
function figures({ completionTokens, decodeTokensPerSecond, timeToFirstToken }: ChatStats): TurnStats {
  return { completionTokens, decodeTokensPerSecond, timeToFirstToken };
}

/** `draw`, at most once for each frame. */
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
