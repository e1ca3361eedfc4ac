/** Keys and clicks go in; messages to send and the wish to stop come out. */

import { byId } from "./dom.js";

export class Composer {
  private readonly input = byId<HTMLTextAreaElement>("input");
  private readonly sendButton = byId<HTMLButtonElement>("send");
  private readonly stopButton = byId<HTMLButtonElement>("stop");
  private ready = false;
  private answering = false;

  constructor(
    private readonly onSend: (text: string) => void,
    private readonly onStop: () => void,
  ) {
    byId<HTMLFormElement>("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.input.addEventListener("input", () => this.refresh());
    this.input.addEventListener("keydown", (event) => {
      // Enter that ends the composition of a character is not meant for us; Safari tells it by the code 229.
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composing) return;
      event.preventDefault();
      this.send();
    });
    this.stopButton.addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => {
      const inDialog = document.querySelector("dialog[open]") !== null;
      if (event.key === "Escape" && !inDialog && !event.isComposing) this.stop();
    });
    this.refresh();
  }

  /** `ready`: a message can be sent. `answering`: there is something to stop. */
  set(ready: boolean, answering: boolean): void {
    const stopHadFocus = document.activeElement === this.stopButton;
    this.ready = ready;
    this.answering = answering;
    this.refresh();
    this.stopButton.disabled = false;
    if (stopHadFocus && !answering) this.focus();
  }

  /** Ready for the next message; not on a touch screen, where the focus would bring up the keyboard. */
  focus(): void {
    if (matchMedia("(hover: hover)").matches) this.input.focus({ preventScroll: true });
  }

  setPlaceholder(text: string): void {
    this.input.placeholder = text;
  }

  get isEmpty(): boolean {
    return this.input.value.trim() === "";
  }

  /** Puts a text back, unless something else was written meanwhile. */
  suggest(text: string): void {
    if (this.isEmpty) this.input.value = text;
    this.refresh();
  }

  /** Sends what is written, if it can be sent. */
  send(): void {
    const text = this.input.value.trim();
    if (!this.ready || this.answering || text === "") return;
    this.input.value = "";
    this.refresh();
    this.focus();
    this.onSend(text);
  }

  private stop(): void {
    if (!this.answering || this.stopButton.disabled) return;
    this.stopButton.disabled = true;
    this.onStop();
  }

  private refresh(): void {
    this.sendButton.hidden = this.answering;
    this.stopButton.hidden = !this.answering;
    this.sendButton.disabled = !this.ready || this.isEmpty;
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
