/** An answer's Markdown goes in while it grows; only the blocks that changed are drawn anew. */

import { type Block, blocks } from "../state/markdown.js";
import { copyButton, element } from "./dom.js";

/** Draws into `host`: one `div` for each block, so that what is complete can be selected and copied meanwhile. */
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

/** The block, its code with a head that names the language and copies, its tables in a frame that scrolls. */
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
