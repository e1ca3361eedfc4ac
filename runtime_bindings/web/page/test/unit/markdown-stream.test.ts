import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { type KeyedBlock, MarkdownStream } from "../../src/state/markdown-stream.js";
import { AnswerView } from "../../src/view/answer.js";

/** Repeat `text` up to `length` characters. */
const repeated = (text: string, length: number): string => text.repeat(Math.ceil(length / text.length)).slice(0, length);

/** What a model that is broken, or made to be, could write without end. */
const HOSTILE: Record<string, (length: number) => string> = {
  ...Object.fromEntries(
    [
      "_a__", "*a **b ", "a**b*c ", "*", "_", "~~a~", "*_~`[<!", "*a_b", "***a ", "**", // emphasis
      "[", "[a", "[a]", "[a](", "[a](b", "[a](<b", '[a](b "', "[a][", "![", "![a](", "]", "[]", // links
      "<", "<a", "<a ", "<http:", "<a@b", "<!--", "<![CDATA[", "<?", // tags and addresses
      "`", "`a``", "```", "~~~", "```\n", "~~~a\n", // code
      ">", "> a\n", "> - ", "- ", "1. ", "- a\n", "- a\n\n", "1) a\n   - b\n", "- [ ] a\n", "-\n", // quotes, lists
      "|", "|\n", "|a|b\n", "|a|b|\n|-|-|\n", "|-", "a|b\n-|-\n\n", // tables
      "[a]: b\n", "[a]: b '\n", "[a\n", "[x]: y\n[x]\n\n", // definitions
      "#", "# ", "#\n", "a\n-", "a\n=\n", "***\n", "\\", "\\[", "&", "&#1", "&amp", "http://", "http://a.b ", "mailto:a@b ", "//",
      " ", " \n", "\n", "\t", "a  ", "word ", "word\n", "word\n\n", "é*", "\u0000", "\r", "😀_",
    ].map((text) => [JSON.stringify(text), (length: number) => repeated(text, length)]),
  ),
  "nested brackets": (length) => "[".repeat(length / 2) + "]".repeat(length / 2),
  "nested links": (length) => "[".repeat(length / 5) + "](b)".repeat(length / 5),
  "nested pictures": (length) => "![".repeat(length / 6) + "](b)".repeat(length / 6),
  "nested emphasis": (length) => "*a ".repeat(length / 6) + " b*".repeat(length / 6),
  "nested parentheses": (length) => "[a](" + repeated("(", length),
  "ever longer backticks": (length) => Array.from({ length: Math.sqrt(2 * length) }, (_, i) => "`".repeat(i + 1)).join(" "),
  "ever deeper lists": (length) => Array.from({ length: Math.sqrt(length) }, (_, i) => `${"  ".repeat(i)}- a\n`).join(""),
  "a wide table": (length) => `${repeated("|a", length / 4)}\n${repeated("|-", length / 4)}\n${repeated("|\n", length / 2)}`,
  "many definitions": (length) => Array.from({ length: length / 20 }, (_, i) => `[${i}]: b\n\n[${i}]\n\n`).join(""),
};

describe("the work for a growing answer", () => {
  let looks = 0;
  const look = String.prototype.charCodeAt;
  beforeEach(() => {
    looks = 0;
    String.prototype.charCodeAt = function (place: number) {
      looks++;
      return look.call(this, place);
    };
  });
  afterEach(() => void (String.prototype.charCodeAt = look));

  /** Feed `text` in a thousand pieces; return how often a character is parsed, and looked at when it is parsed. */
  function workPerCharacter(text: string): [parsed: number, looks: number] {
    const stream = new MarkdownStream();
    for (let end = 0; end < text.length; end += Math.ceil(text.length / 1000)) stream.update(text.slice(0, end));
    stream.end(text);
    return [stream.parsedCharacters / text.length, looks / Math.max(1, stream.parsedCharacters)];
  }

  it.each(Object.entries(HOSTILE))("is bounded for %s", (_, make) => {
    for (const length of [4000, 40_000]) {
      looks = 0;
      const [parsed, looked] = workPerCharacter(make(length));
      expect(parsed).toBeLessThan(100);
      expect(looked).toBeLessThan(100);
    }
  }, 60_000);
});

describe("a stream", () => {
  const documents = [
    "# Title\n\nSome *text* and `code`.\nMore.\n\n- one\n- two\n\n  still two\n\n1. x\n\n   - y\n\n> quote\nlazy\n\n```py\na\n\nb\n```\nafter\n",
    "a\n***b\n\nc\n***\nd\n-\n\ne\n- f\n\n---\n- g\n\n--\n\nh\n===\n",
    "| a | b |\n|---|--:|\n| 1 | 2 |\n\nx | y\n- | -\nz\n\nend",
    "See [there] and [here].\n\nMiddle.\n\n[there]: https://example.com/\n\n- [here]\n\n[here]: https://example.org/ 'title'\n\n[there]",
    "    indented\n\n    code\n\ntext\r\n\r\n~~~\r\nx\r\n~~~\r\n\r\nend\r",
    `${"long *paragraph* with [a link](https://example.com) ".repeat(40)}\n\n${"- item\n".repeat(200)}\n${"x".repeat(2000)}`,
    "```\nnever closed\n\n# no heading\n" + "line\n".repeat(300),
  ];

  function fed(text: string, size: number, each: (soFar: string, blocks: KeyedBlock[], rest: string) => void): void {
    const stream = new MarkdownStream();
    const shown: KeyedBlock[] = [];
    for (let end = 0; end <= text.length + size; end += size) {
      const soFar = text.slice(0, end);
      const change = end < text.length ? stream.update(soFar) : stream.end(text);
      if (change.from !== null) shown.splice(change.from, Infinity, ...change.blocks);
      each(soFar, shown, change.rest);
      if (end >= text.length) break;
    }
  }

  it.each(documents.flatMap((text) => (text.length < 1000 ? [1, 4] : [97]).map((size) => [text.slice(0, 20), size, text] as const)))(
    "has the blocks of the text so far: %j, by %i",
    (_, size, text) => {
      fed(text, size, (soFar, blocks, rest) => {
        const whole = new MarkdownStream().end(soFar.slice(0, soFar.length - rest.length)).blocks;
        expect(blocks.map(({ raw }) => raw)).toEqual(whole.map(({ raw }) => raw));
      });
    },
    60_000,
  );

  it.each(documents.map((text) => [text.slice(0, 20), text]))("ends as if it had come at once: %j", (_, text) => {
    const [streamed, whole] = [document.createElement("div"), document.createElement("div")];
    const view = new AnswerView(streamed);
    for (let end = 0; end < text.length; end += 31) view.update(text.slice(0, end));
    view.end(text);
    new AnswerView(whole).end(text);
    expect(streamed.innerHTML).toBe(whole.innerHTML);
  });

  it("parses a finished block once more at most", () => {
    const text = repeated("A paragraph of some words, and a few more.\n\n", 20_000);
    const stream = new MarkdownStream();
    for (let end = 0; end < text.length; end += 50) stream.update(text.slice(0, end));
    expect(stream.parsedCharacters).toBeLessThan(4 * text.length);
  });

  it("shows every character of a long paragraph while it grows", () => {
    const host = document.createElement("div");
    const view = new AnswerView(host);
    const text = repeated("words ", 3000);
    for (let end = 0; end < text.length; end += 7) {
      view.update(text.slice(0, end));
      expect(host.textContent?.replace(/\s+/g, " ").trim()).toBe(text.slice(0, end).trim());
    }
  });

  it("shows the lines of long code while it grows, inside of it", () => {
    const host = document.createElement("div");
    const view = new AnswerView(host);
    const code = repeated("line <of> *code*\n", 3000);
    for (let end = 0; end < code.length; end += 13) {
      view.update("```\n" + code.slice(0, end));
      expect(host.querySelector("code")!.textContent!.trimEnd()).toBe(code.slice(0, end).trimEnd());
    }
    expect(host.querySelectorAll(".block")).toHaveLength(1);
  });

  it.each(["> ", "- ", "*a ", "**a _b ", "[", "![", "<b>"])("shows %j a thousand times, however deep it nests", (text) => {
    const host = document.createElement("div");
    new AnswerView(host).end(`${text.repeat(1000)}${" b*".repeat(1000)}`);
    let depth = 0;
    for (const node of host.querySelectorAll("*")) {
      let own = 0;
      for (let up: Element | null = node; up && own < 100; up = up.parentElement) own++;
      depth = Math.max(depth, own);
    }
    expect(depth).toBeLessThan(70);
    expect(host.textContent).toContain("b");
  });
});
