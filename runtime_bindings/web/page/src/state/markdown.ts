/** Convert a model's untrusted Markdown to harmless HTML, block by block. */

import DOMPurify from "dompurify";
import MarkdownIt, { type Token } from "markdown-it";

const TAGS = [
  "a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p", "pre", "s", "strong",
  "table", "tbody", "td", "th", "thead", "tr", "ul",
]; // prettier-ignore
const ATTRIBUTES = ["align", "checked", "class", "disabled", "href", "start", "title", "type"];
/** Links may open a web page or an email; never `javascript:`, `data:` or a path on the page's own origin. */
const ADDRESS = /^(?:https?:\/\/|mailto:)/i;
/** Deeper lists, quotes and emphasis are shown as text: a model that repeats itself nests without end. */
const DEEPEST = 20;

/** The definitions of reference links, by label. */
export type References = Record<string, { title: string; href: string }>;

/** A block of the document. */
export interface Block {
  /** Its source. */
  raw: string;
  render(): DocumentFragment;
}

/** The parser; its work is linear in the text, whatever that is. HTML in an answer is shown as text. */
export const parser = new MarkdownIt("default", { html: false, breaks: true, linkify: true, maxNesting: DEEPEST });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false }); // `main.py` is a file, although .py is a domain
parser.validateLink = (address) => ADDRESS.test(address.trim());
parser.core.ruler.push("argosy", ({ tokens }) => tokens.forEach((token, place) => adapt(token, tokens[place - 2])));
for (const tag of ["em_open", "em_close", "strong_open", "strong_close", "s_open", "s_close"]) {
  parser.renderer.rules[tag] = (tokens, place, options, _, self) =>
    (tokens[place] as Token).level >= DEEPEST ? "" : self.renderToken(tokens, place, options);
}
// Loading a picture would tell its server that somebody reads this; a link leaves that to the reader.
parser.renderer.rules["image"] = (tokens, place) => {
  const { content, attrs } = tokens[place] as Token;
  const address = String(attrs?.find(([name]) => name === "src")?.[1] ?? "");
  const { escapeHtml } = parser.utils;
  const text = escapeHtml(content || address);
  return ADDRESS.test(address) ? `<a href="${escapeHtml(address)}">${text}</a>` : text;
};
/** A block and the lines that it takes in the parsed text: from the first, up to but without the second. */
export interface Located extends Block {
  lines: readonly [number, number];
}

/**
 * Split Markdown into its top-level blocks: paragraphs, lists, tables, code. `references` are the definitions that links
 * may use, and receive those of the text.
 */
export function parse(text: string, references: References): Located[] {
  const environment = { references };
  const starts = lineStarts(text);
  let tokens: Token[];
  try {
    tokens = parser.parse(text, environment);
  } catch {
    return [{ raw: text, lines: [0, starts.length - 1], render: () => asItIs(text) }];
  }
  const found: Located[] = [];
  for (let first = 0, place = 0; place < tokens.length; place++) {
    const { level, nesting } = tokens[place] as Token;
    if (level > 0 || nesting > 0) continue;
    const own = tokens.slice(first, place + 1);
    const [begin, end] = (own[0] as Token).map ?? [0, starts.length - 1];
    const raw = text.slice(starts[begin], starts[end]);
    const isComplete = own.every((token) => token.level < DEEPEST - 1); // the parser leaves deeper blocks out
    const render = (): DocumentFragment => (isComplete ? rendered(own, raw, environment) : asItIs(raw));
    found.push({ raw, lines: [begin, end], render });
    first = place + 1;
  }
  return found;
}

/** Return where every line of `text` starts, and its end. */
export function lineStarts(text: string): number[] {
  const starts = [0];
  for (const { index, 0: mark } of text.matchAll(/\r\n?|\n/g)) starts.push(index + mark.length);
  if (starts.at(-1) !== text.length) starts.push(text.length);
  return starts;
}

function rendered(tokens: Token[], raw: string, environment: { references: References }): DocumentFragment {
  try {
    return harmless(parser.renderer.render(tokens, parser.options, environment));
  } catch {
    return asItIs(raw);
  }
}

/** Show the text as it is. */
function asItIs(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  const paragraph = document.createElement("p");
  paragraph.style.whiteSpace = "pre-wrap";
  paragraph.textContent = text;
  fragment.append(paragraph);
  return fragment;
}

/** Make elements of HTML, without anything that could act or load. */
function harmless(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, {
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

/** Change a token to what the page shows; `parent` is the one that opens the list item, if it is the text of one. */
function adapt(token: Token, parent: Token | undefined): void {
  const [text] = token.children ?? [];
  // The first two levels of headings are the page's own.
  if (token.type.startsWith("heading_")) token.tag = `h${Math.min(6, Number(token.tag.slice(1)) + 2)}`;
  else if (/^t[hd]_open$/.test(token.type)) alignByAttribute(token);
  else if (text?.type === "text" && parent?.type === "list_item_open") token.children?.unshift(...checkbox(text));
}

/** Say how a cell is aligned without a style, which the page does not allow. */
function alignByAttribute(cell: Token): void {
  const aligned = /^text-align:(\w+)$/.exec(String(cell.attrGet("style") ?? ""));
  cell.attrs = aligned ? [["align", aligned[1] as string]] : null;
}

/** Replace `[ ]` or `[x]` at the beginning of `text` by a box, which is returned. */
function* checkbox(text: Token): Generator<Token> {
  const mark = /^\[([ xX])\]\s/.exec(text.content);
  if (!mark) return;
  text.content = text.content.slice(mark[0].length);
  const content = `<input type="checkbox" disabled${mark[1] === " " ? "" : " checked"}> `;
  yield Object.assign(Object.create(text) as Token, { type: "html_inline", content });
}
