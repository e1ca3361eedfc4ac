/** The message field with its buttons to send and to stop. */

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
      // Enter may end the composition of a character, which is not ours; Safari marks it with key code 229.
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

  /** Show whether a message can be sent, and whether there is an answer to stop. */
  set(ready: boolean, answering: boolean): void {
    const stopHadFocus = document.activeElement === this.stopButton;
    this.ready = ready;
    this.answering = answering;
    this.refresh();
    this.stopButton.disabled = false;
    if (stopHadFocus && !answering) this.focus();
  }

  /** Focus the field, except on a touch screen, where that would open the keyboard. */
  focus(): void {
    if (matchMedia("(hover: hover)").matches) this.input.focus({ preventScroll: true });
  }

  setPlaceholder(text: string): void {
    this.input.placeholder = text;
  }

  get isEmpty(): boolean {
    return this.input.value.trim() === "";
  }

  /** Put a text into the field, unless something else was written meanwhile. */
  suggest(text: string): void {
    if (this.isEmpty) this.input.value = text;
    this.refresh();
  }

  /** Send the message, if possible. */
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
