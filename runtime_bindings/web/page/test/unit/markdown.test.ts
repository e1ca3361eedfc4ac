import { describe, expect, it } from "vitest";

import { blocks } from "../../src/state/markdown-stream.js";
import { AnswerView } from "../../src/view/answer.js";

/** Render what the page would insert into its document. */
function shown(text: string): HTMLElement {
  const host = document.createElement("div");
  for (const block of blocks(text)) host.append(block.render());
  return host;
}

describe("what a model may not do", () => {
  const attempts = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <img src=x onerror=alert(1)> text",
    "<svg onload=alert(1)><circle/></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<iframe src='https://example.com'></iframe>",
    "<form action='https://example.com'><input name=q><button>go</button></form>",
    "<style>body{display:none}</style>",
    "<base href='https://example.com/'>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](blob:https://example.com/1)",
    "[x](file:///etc/passwd)",
    "[x](/artefact/argosy-manifest.json)",
    "<javascript:alert(1)>",
    "![x](https://example.com/a.png)",
    "![x](javascript:alert(1))",
    '![x](https://example.com/a.png"onerror="alert(1))',
    '![x" onerror="alert(1)](https://example.com/a.png)',
    '[x](https://example.com "t" onclick="alert(1)")',
    '[x](https://example.com/"onmouseover="alert(1))',
    "[x]: javascript:alert(1)\n\n[x]",
    "```x\" onload=\"alert(1)\n<script>alert(1)</script>\n```",
    "`<script>alert(1)</script>`",
    "# <img src=x onerror=alert(1)>",
    "| <img src=x onerror=alert(1)> | b |\n| - | - |\n| <script>1</script> | [x](javascript:1) |",
    "- [ ] <img src=x onerror=alert(1)>\n- [x] done",
    "<details open ontoggle=alert(1)>x</details>",
    "<div id='composer' class='card' style='position:fixed'>x</div>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "\u0000<scr\u0000ipt>alert(1)</scr\u0000ipt>",
  ];
  const harmless =
    /^(A|BLOCKQUOTE|BR|CODE|EM|H[3-6]|HR|INPUT|LI|OL|P|PRE|S|STRONG|TABLE|TBODY|TD|TH|THEAD|TR|UL)$/;

  it.each(attempts)("%s", (text) => {
    for (const node of shown(text).querySelectorAll("*")) {
      expect(node.tagName).toMatch(harmless);
      for (const { name, value } of node.attributes) {
        expect(name).toMatch(/^(align|checked|class|disabled|href|start|title|type|target|rel)$/);
        if (name === "href") expect(value).toMatch(/^(https?:\/\/|mailto:)/i);
        if (name === "class") expect(value).toMatch(/^language-[\w+#.-]+$/);
      }
    }
  });

  it("shows HTML as what it is: text", () => {
    expect(shown("<script>alert(1)</script>").textContent).toContain("<script>alert(1)</script>");
    expect(shown("a <b>bold</b> c").textContent).toContain("a <b>bold</b> c");
  });

  it("makes a link of a picture, which nothing fetches before it is clicked", () => {
    const link = shown("![a cat](https://example.com/cat.png)").querySelector("a");
    expect(link?.href).toBe("https://example.com/cat.png");
    expect(link?.textContent).toBe("a cat");
  });

  it("opens links in a new tab, which knows nothing of this one", () => {
    const link = shown("[x](https://example.com)").querySelector("a");
    expect(link?.target).toBe("_blank");
    expect(link?.rel).toContain("noopener");
    expect(link?.rel).toContain("noreferrer");
  });
});

describe("what a model may do", () => {
  it("writes paragraphs, lists, code and tables", () => {
    const host = shown("# T\n\n*a* **b** ~~c~~ `d`\n\n3. x\n4. y\n\n```python\n1 < 2\n```\n\n| a | b |\n| - | -: |\n| 1 | 2 |");
    expect(host.querySelector("h3")?.textContent).toBe("T");
    expect(host.querySelector("ol")?.start).toBe(3);
    expect(host.querySelector("pre code.language-python")?.textContent).toBe("1 < 2\n");
    expect(host.querySelectorAll("td")[1]?.getAttribute("align")).toBe("right");
    expect([..."em strong s code".split(" ")].every((tag) => host.querySelector(tag))).toBe(true);
  });

  it("breaks lines where it breaks them", () => {
    expect(shown("a\nb").querySelectorAll("br")).toHaveLength(1);
  });

  it("keeps the text of code as it is", () => {
    expect(shown("```\n<b>&amp;\n```").querySelector("code")?.textContent).toBe("<b>&amp;\n");
  });
});

describe("a growing answer", () => {
  it("keeps its first blocks as they are", () => {
    const text = "One paragraph.\n\n- a\n- b\n\n```\ncode\n```\n\nThe end.";
    const whole = blocks(text).map((block) => block.raw);
    const half = blocks(text.slice(0, text.indexOf("code"))).map((block) => block.raw);
    expect(half.slice(0, 1)).toEqual(whole.slice(0, 1));
    expect(whole.join("").replace(/\n/g, "")).toBe(text.replace(/\n/g, ""));
  });

  it("draws a block again when the address that it refers to follows", () => {
    const host = document.createElement("div");
    const view = new AnswerView(host);
    const text = "See [there].\n\nThat is all.\n\n[there]: https://example.com/\n";
    view.update(text.slice(0, 20));
    const first = host.firstElementChild;
    view.update(text.slice(0, 30));
    expect(host.firstElementChild).toBe(first);
    view.update(text);
    expect(host.querySelector("a")?.href).toBe("https://example.com/");
  });

  it("can be shown at every length", () => {
    const text = "a **b [c](https://example.com) `d\n\n```js\nx\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n<img src=x onerror=1>";
    for (let end = 0; end <= text.length; end++) expect(shown(text.slice(0, end)).querySelector("img")).toBeNull();
  });
});
