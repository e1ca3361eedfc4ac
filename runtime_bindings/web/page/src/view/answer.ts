/** Render an answer's Markdown while it grows, redrawing only the blocks that changed. */

import type { Block } from "../state/markdown.js";
import { type Change, MarkdownStream } from "../state/markdown-stream.js";
import { copyButton, element } from "./dom.js";

/** Renders into `host`, one `div` per block, so that complete blocks can be selected and copied meanwhile. */
export class AnswerView {
  private readonly stream = new MarkdownStream();
  private readonly drawn: string[] = [];
  /** The text behind the last block that is not parsed yet. */
  private rest = document.createTextNode("");

  constructor(private readonly host: HTMLElement) {}

  /** Draw the text so far. */
  update(text: string): void {
    this.draw(this.stream.update(text));
  }

  /** Draw the finished text. */
  end(text: string): void {
    this.draw(this.stream.end(text));
  }

  private draw({ from, blocks, rest, before }: Change): void {
    if (from !== null) {
      this.rest.remove();
      blocks.forEach((block, offset) => this.place(block, block.key, from + offset));
      while (this.drawn.length > from + blocks.length) {
        this.drawn.pop();
        this.host.lastElementChild?.remove();
      }
    }
    if (rest === "") return;
    if (!this.rest.isConnected) this.join(innermost(this.host), before);
    this.rest.data = rest;
  }

  /** Append the rest of the text to the element that shows the text up to `before`, where rendering has changed white space. */
  private join(end: Element, before: string): void {
    const last = end.lastChild;
    if (end.matches("pre *")) {
      if (last instanceof Text && !/[\r\n]/.test(before)) last.data = last.data.replace(/\n$/, "");
    } else if (/\s/.test(before)) end.append(" ");
    end.append(this.rest);
  }

  private place(block: Block, key: string, place: number): void {
    if (this.drawn[place] === key) return;
    const holder = element("div", { class: "block" }, decorate(block));
    const present = this.host.children[place];
    if (present) present.replaceWith(holder);
    else this.host.append(holder);
    this.drawn[place] = key;
  }
}

/** Find the last element of the last block that holds text. */
function innermost(host: HTMLElement): Element {
  let found: Element = host;
  for (let next = found.lastElementChild; next && !next.matches("br, hr, input"); next = found.lastElementChild) found = next;
  return found;
}
/** Render a block: code gets a header with the language and a copy button, tables a frame that scrolls. */
function decorate(block: Block): DocumentFragment {
  const fragment = block.render();
  for (const code of fragment.querySelectorAll("pre > code")) {
    const pre = code.parentElement;
    if (pre === null) continue;
    const language = code.className.replace("language-", "");
    const copy = copyButton("Copy code", () => code.textContent ?? "", { "data-testid": "copy-code" });
    const head = element("div", { class: "code-head" }, element("span", {}, language || "code"), copy);
    const frame = element("div", { class: "code", "data-testid": "code" }, head);
    pre.replaceWith(frame);
    pre.tabIndex = 0;
    frame.append(pre);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = element("div", { class: "table", tabindex: "0" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}
