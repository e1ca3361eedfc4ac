import { describe, expect, test } from "vitest";
import { StopStrings } from "../../src/stops.js";
import { ChatTemplate, checkMessages, selectTemplate } from "../../src/template.js";
import { Tokenizer } from "../../src/tokenizer.js";
import { checkTokenizer } from "../../src/tokenizer_rules.js";
import type { Message } from "../../src/types.js";
import { fixture } from "./fixtures.js";

interface TokenizerCase {
  name: string;
  tokenizer: Record<string, unknown>;
  texts: { text: string; ids: number[] }[];
  answers: { ids: number[]; pieces: string[] }[];
}

interface RuleCase {
  name: string;
  tokenizer: Record<string, unknown>;
  reason: string | null;
}

interface TemplateCase {
  source: string;
  specials: Record<string, string>;
  messages: Message[];
  variables: Record<string, unknown>;
  text: string | null;
}

interface StopCase {
  stops: string[];
  special: string[];
  pieces: [text: string, hidden: string][];
  given: string[];
  rest: string;
  found: string | null;
}

for (const { name, tokenizer: json, texts, answers } of fixture<TokenizerCase[]>("tokenizer")) {
  describe(`tokenizer: ${name}`, () => {
    const tokenizer = new Tokenizer(json);
    test.each(texts)("encodes $text", ({ text, ids }) => {
      expect(tokenizer.encode(text)).toEqual(ids);
    });

    test("gives the pieces of answers", () => {
      for (const { ids, pieces } of answers) {
        const detokenizer = tokenizer.detokenizer();
        expect([...ids.map((id) => detokenizer.add(id)), detokenizer.finish()]).toEqual(pieces);
      }
    });
  });
}

describe("tokenizers from strangers", () => {
  test.each(fixture<RuleCase[]>("tokenizer_rules"))("$name", ({ tokenizer: json, reason }) => {
    if (reason === null) expect(() => checkTokenizer(json)).not.toThrow();
    else expect(() => new Tokenizer(json)).toThrow(reason);
  });

  test("what the library throws is a sentence", () => {
    const model = { type: "BPE", vocab: { a: 0 }, merges: [] };
    const decoder = { type: "WordPiece", prefix: "##", cleanup: false };
    const parts = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null };
    expect(() => new Tokenizer({ ...parts, decoder, model }).decode([0.5])).toThrow("cannot decode these tokens");
  });
});

describe("chat templates", () => {
  const cases = fixture<TemplateCase[]>("template");
  test.each(cases.map((case_, i) => [i, case_] as const))("case %i", (_, { source, specials, messages, variables, text }) => {
    const template = new ChatTemplate(source, specials);
    if (text === null) expect(() => template.render(messages, variables)).toThrow("refuses this conversation");
    else expect(template.render(messages, variables)).toBe(text);
  });

  const bombs = [
    "{% for i in range(100000000) %}{% endfor %}",
    "{% set a = range(100000) %}{% for i in a %}{% for j in a %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
  ];
  test.each(bombs)("%s does not hang", (source) => {
    const template = new ChatTemplate(source);
    expect(() => template.render([{ role: "user", content: "Hi" }])).toThrow("does something forbidden");
  }, 20_000);

  test.each(["{{ messages.constructor }}", "{{ ''.constructor.constructor('return 1')() }}", "{{ messages['__proto__'] }}"])(
    "%s reaches nothing",
    (source) => {
      let text = "";
      try {
        text = new ChatTemplate(source).render([{ role: "user", content: "Hi" }]);
      } catch (error) {
        expect(String(error)).toContain("the model's chat template cannot be used");
      }
      expect(text).not.toMatch(/function|native|object/);
    },
  );

  test("a template that is no Jinja is refused", () => {
    expect(() => new ChatTemplate("{% if %}")).toThrow("the model's chat template cannot be used");
  });

  test("today has a date", () => {
    const text = new ChatTemplate("{{ strftime_now('%Y-%m-%d|%d %b %Y|%%') }}").render([]);
    expect(text).toMatch(/^\d{4}-\d\d-\d\d\|\d\d [A-Z][a-z]{2} \d{4}\|%$/);
  });

  test("named templates", () => {
    const named = [{ name: "tool_use", template: "a" }, { name: "default", template: "b" }];
    expect(selectTemplate(named)).toBe("b");
    expect(selectTemplate(null)).toBe(null);
    expect(() => selectTemplate(3)).toThrow("`chat_template` is not a template");
  });

  test.each([[[]], ["Hi"], [[{ role: "user" }]], [[{ role: "king", content: "a" }]]])("%j is no conversation", (messages) => {
    expect(() => checkMessages(messages)).toThrow(/a conversation must be|needs a text|is not a role/);
  });
});

describe("stop strings", () => {
  test.each(fixture<StopCase[]>("stops"))("$stops in $pieces", ({ stops, special, pieces, given, rest, found }) => {
    const of = new StopStrings(stops, special);
    expect(pieces.map((piece) => of.add(...piece))).toEqual(given);
    expect(of.finish()).toBe(rest);
    expect(of.found).toBe(found);
  });
});
