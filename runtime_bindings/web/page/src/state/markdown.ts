/** Markdown that a model wrote, and that nobody may trust, goes in; harmless HTML comes out, block by block. */

import DOMPurify from "dompurify";
import { Marked, type Token, type TokensList } from "marked";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p", "pre",
  "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
]; // prettier-ignore
const ATTRIBUTES = ["align", "checked", "class", "disabled", "href", "start", "title", "type"];
/** Only what opens a page or a letter; never `javascript:`, `data:` or a path on the page's own origin. */
const ADDRESS = /^(?:https?:\/\/|mailto:)/i;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML in an answer is something the model says, not something the page does.
    html: ({ text }) => escape(text),
    // A picture would tell its server that, and what, somebody reads here: a link leaves that to the reader.
    image: ({ href, text }) =>
      ADDRESS.test(href) ? `<a href="${escape(href)}">${escape(text || href)}</a>` : escape(text || href),
    // The page's own headings are the first two.
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

/** A block of the document. */
export interface Block {
  /** Its source. */
  raw: string;
  /** What its HTML is made from: by this it is known again while the answer grows. */
  key: string;
  render(): DocumentFragment;
}

/** The top-level blocks: paragraphs, lists, tables, code. */
export function blocks(text: string): Block[] {
  let tokens: TokensList;
  try {
    tokens = marked.lexer(text);
  } catch {
    return [{ raw: text, key: text, render: () => asItIs(text) }];
  }
  const links = JSON.stringify(tokens.links); // of references, which may follow the block that refers to them
  return tokens
    .filter((token) => token.type !== "space" && token.type !== "def")
    .map((token) => ({ raw: token.raw, key: token.raw + links, render: () => rendered(token) }));
}

function rendered(token: Token): DocumentFragment {
  try {
    return render(token);
  } catch {
    return asItIs(token.raw);
  }
}

/** A text without its Markdown: a model that repeats itself nests lists and quotes deeper than the parser's stack. */
function asItIs(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  const paragraph = document.createElement("p");
  paragraph.style.whiteSpace = "pre-wrap";
  paragraph.textContent = text;
  fragment.append(paragraph);
  return fragment;
}

/** Harmless HTML of one token. */
function render(token: Token): DocumentFragment {
  const fragment = DOMPurify.sanitize(marked.parser([token]), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOWED_URI_REGEXP: ADDRESS,
    ADD_URI_SAFE_ATTR: ["align", "checked", "disabled", "start", "type"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const each of fragment.querySelectorAll("[class]")) {
    if (!/^language-[\w+#.-]{1,30}$/.test(each.className)) each.removeAttribute("class");
  }
  for (const box of fragment.querySelectorAll("input")) {
    if (box.type !== "checkbox") box.remove();
    box.disabled = true;
  }
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  return fragment;
}

function escape(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (letter) => names[letter] ?? letter);
}
