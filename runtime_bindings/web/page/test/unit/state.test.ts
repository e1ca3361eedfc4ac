import { beforeEach, describe, expect, it, vi } from "vitest";

import { Announcer } from "../../src/state/announcer.js";
import { Conversation, recallTurns } from "../../src/state/conversation.js";
import { explain, sentence } from "../../src/state/problem.js";
import { LoadProgress } from "../../src/state/progress.js";

beforeEach(() => {
  localStorage.clear();
  sessionStorage.clear();
});

describe("progress", () => {
  it("says stage, size, speed and time left", () => {
    const progress = new LoadProgress();
    const view = progress.add({ stage: "weights", loaded: 81.2e6, total: 271e6, bytesPerSecond: 12.3e6 }, 0);
    expect(view.stage).toBe("Loading the weights");
    expect(view.detail).toBe("81.2 MB of 271.0 MB · 12.3 MB/s · 16 s left");
  });
  it("measures the speed itself where nobody tells it", () => {
    const progress = new LoadProgress();
    progress.add({ stage: "weights", loaded: 0, total: 100e6 }, 0);
    const view = progress.add({ stage: "weights", loaded: 20e6, total: 100e6 }, 1000);
    expect(view.detail).toBe("20.0 MB of 100.0 MB · 20.0 MB/s · 4 s left");
  });
  it("never goes back, and ends at the end", () => {
    const progress = new LoadProgress();
    const stages = ["library", "weights", "tokenizer", "shaders"] as const;
    let last = 0;
    for (const step of [1, 2, 1, 3, 4]) {
      for (const stage of stages) {
        const { fraction } = progress.add({ stage, loaded: step, total: 4 }, step);
        expect(fraction).toBeGreaterThanOrEqual(last);
        last = fraction;
      }
    }
    expect(last).toBeCloseTo(1);
  });
  it("speaks of the shaders once the weights are there", () => {
    const progress = new LoadProgress();
    progress.add({ stage: "shaders", loaded: 3, total: 60 }, 0);
    expect(progress.add({ stage: "weights", loaded: 1, total: 2 }, 1).stage).toBe("Loading the weights");
    expect(progress.add({ stage: "weights", loaded: 2, total: 2 }, 2).detail).toBe("3 of 60 shaders");
  });
  it("takes a stage of unknown size", () => {
    expect(new LoadProgress().add({ stage: "library", loaded: 5000, total: 0 }, 0).detail).toBe("5.0 kB");
  });
});

describe("the conversation", () => {
  it("comes back after a reload", () => {
    const talk = new Conversation();
    talk.ask("Hi");
    talk.answer({ role: "assistant", content: "Hello.", ending: "stopped" });
    expect(recallTurns()).toEqual(talk.turns);
  });
  it("begins with the system prompt, if there is one", () => {
    const talk = new Conversation([{ role: "user", content: "Hi" }]);
    expect(talk.messages(" ")).toEqual([{ role: "user", content: "Hi" }]);
    expect(talk.messages("Be brief.")[0]).toEqual({ role: "system", content: "Be brief." });
  });
  it("leaves out answers that never began, with their questions", () => {
    const talk = new Conversation([{ role: "user", content: "Hi" }, { role: "assistant", content: "" }]);
    talk.ask("Hello");
    expect(talk.messages("")).toEqual([{ role: "user", content: "Hello" }]);
    expect(talk.question()).toBe("Hello");
  });
  it("survives whatever lies in the storage", () => {
    for (const junk of ["{", "3", '[3,null,{"role":"system","content":"x"},{"role":"user","content":5}]']) {
      localStorage.setItem("argosy.conversation", junk);
      expect(recallTurns()).toEqual([]);
    }
  });
  it("keeps its end where the storage is full", () => {
    const talk = new Conversation([]);
    const real = Storage.prototype.setItem;
    const full = vi.spyOn(Storage.prototype, "setItem").mockImplementation(function (this: Storage, key, value) {
      if (value.length > 100) throw new DOMException("full", "QuotaExceededError");
      real.call(this, key, value);
    });
    for (let turn = 0; turn < 6; turn++) talk.ask(`${turn}`.repeat(20));
    full.mockRestore();
    expect(recallTurns().at(-1)?.content).toBe("5".repeat(20));
  });
  it("is written a few times where it is far too long for the storage", () => {
    const talk = new Conversation(Array.from({ length: 2000 }, () => ({ role: "user", content: "x".repeat(100) })));
    const full = vi.spyOn(Storage.prototype, "setItem").mockImplementation((_, value) => {
      if (value.length > 100_000) throw new DOMException("full", "QuotaExceededError");
    });
    talk.save();
    expect(full.mock.calls.length).toBeLessThan(20);
    expect(full.mock.lastCall![1].length).toBeGreaterThan(50_000);
    full.mockClear();
    talk.ask("One more");
    expect(full).toHaveBeenCalledTimes(2);
    full.mockRestore();
  });
});

describe("problems", () => {
  it("say what is wrong and what to do", () => {
    const error = Object.assign(new Error("this browser has no `WebGPU`"), { hint: "use another one" });
    expect(explain(error)).toEqual({ message: "This browser has no “WebGPU”.", hint: "Use another one." });
  });
  it.each([
    [new TypeError("Failed to fetch"), "The model's files cannot be reached."],
    [new DOMException("quota", "QuotaExceededError"), "This browser has no room left to keep the model."],
    [new RangeError("Array buffer allocation failed"), "There is too little memory for this model."],
    [new Error("the prompt has `9` tokens, and the context window holds 8"), "The prompt has “9” tokens, and the context window holds 8."],
    ["odd", "Odd."],
    [undefined, "Undefined."],
  ])("%s", (error, message) => {
    expect(explain(error).message).toBe(message);
    expect(explain(error).hint).not.toBe("");
  });
  it("are sentences", () => expect(sentence("  a\n b ")).toBe("A b."));
});

describe("reading aloud", () => {
  it("says whole sentences, not each piece", () => {
    const said: string[] = [];
    const announcer = new Announcer((text) => said.push(text));
    announcer.begin(0);
    const text = "**Paris** is the capital. It lies on the Seine. It is large, and";
    [...text].forEach((letter, place) => announcer.add(letter, place * 100));
    announcer.end(10_000);
    expect(said.join(" ")).toBe("Paris is the capital. It lies on the Seine. It is large, and");
    expect(said.length).toBeLessThanOrEqual(3);
  });
  it("says nothing of nothing", () => {
    const say = vi.fn();
    const announcer = new Announcer(say);
    announcer.begin(0);
    announcer.add("``` \n", 5000);
    announcer.end(9000);
    expect(say).not.toHaveBeenCalled();
  });
});
