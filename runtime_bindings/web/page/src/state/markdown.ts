/** Convert a model's untrusted Markdown to harmless HTML, block by block. */

import DOMPurify from "dompurify";
import { Marked, type Token, type TokensList } from "marked";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p", "pre",
  "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
]; // prettier-ignore
const ATTRIBUTES = ["align", "checked", "class", "disabled", "href", "start", "title", "type"];
/** Links may open a web page or an email; never `javascript:`, `data:` or a path on the page's own origin. */
const ADDRESS = /^(?:https?:\/\/|mailto:)/i;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML in an answer is shown as text.
    html: ({ text }) => escape(text),
    // Loading a picture would tell its server that somebody reads this; a link leaves that to the reader.
    image: ({ href, text }) =>
      ADDRESS.test(href) ? `<a href="${escape(href)}">${escape(text || href)}</a>` : escape(text || href),
    // The first two levels are the page's own.
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
  /** Identifies the block while the answer grows: everything its HTML is made from. */
  key: string;
  render(): DocumentFragment;
}

/** Split Markdown into its top-level blocks: paragraphs, lists, tables, code. */
export function blocks(text: string): Block[] {
  let tokens: TokensList;
  try {
    tokens = marked.lexer(text);
  } catch {
    return [{ raw: text, key: text, render: () => asItIs(text) }];
  }
  const links = JSON.stringify(tokens.links); // reference links may be defined after the block that uses them
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

/** Show the text as it is: a model that repeats itself can nest lists and quotes deeper than the parser's stack. */
function asItIs(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  const paragraph = document.createElement("p");
  paragraph.style.whiteSpace = "pre-wrap";
  paragraph.textContent = text;
  fragment.append(paragraph);
  return fragment;
}

/** Render one token as harmless HTML. */
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
  for (const node of fragment.querySelectorAll("[class]")) {
    if (!/^language-[\w+#.-]{1,30}$/.test(node.className)) node.removeAttribute("class");
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
