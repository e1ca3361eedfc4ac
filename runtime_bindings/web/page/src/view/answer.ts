/** Render an answer's Markdown while it grows, redrawing only the blocks that changed. */

import { type Block, blocks } from "../state/markdown.js";
import { copyButton, element } from "./dom.js";

/** Renders into `host`, one `div` per block, so that complete blocks can be selected and copied meanwhile. */
export class AnswerView {
  private drawn: string[] = [];

  constructor(private readonly host: HTMLElement) {}

  update(text: string): void {
    const wanted = blocks(text);
    wanted.forEach((block, place) => {
      if (this.drawn[place] === block.key) return;
      const holder = element("div", { class: "block" }, decorate(block));
      const present = this.host.children[place];
      if (present) present.replaceWith(holder);
      else this.host.append(holder);
    });
    while (this.host.children.length > wanted.length) this.host.lastElementChild?.remove();
    this.drawn = wanted.map((block) => block.key);
  }
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
