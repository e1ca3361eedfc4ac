import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { ArgosyError } from "../../../src/errors.js";
import { answers, ask, fails, get, says, state, visit } from "./visit.js";

vi.mock("#engine", () => ({ loadEngine: vi.fn(), forgetModel: vi.fn() }));

beforeEach(() => {
  localStorage.clear();
  sessionStorage.clear();
});
afterEach(() => void vi.unstubAllGlobals());

it("asks and shows the answer", async () => {
  await (await visit({ answers: [says("Par", "is.")] })).ready;
  await ask("The capital?");
  expect([state(), answers()]).toEqual(["ready", ["Paris."]]);
});

it("shows an answer that nests without end, also after a reload", async () => {
  const endless = "> - ".repeat(4000);
  await (await visit({ answers: [says(endless), says("Fine.")] })).ready;
  await ask("Go on");
  expect([state(), answers()]).toEqual(["ready", [endless.trim()]]);
  await (await visit({ answers: [says("Fine.")] })).ready;
  expect(state()).toBe("ready");
  await ask("And now?");
  expect(answers()[1]).toBe("Fine.");
});

it("loads the model again where the GPU was taken away", async () => {
  const gone = new ArgosyError("the browser took the GPU away: no reason given", "reload the page", true);
  const { ready, loads } = await visit({ answers: [fails(gone), says("Paris.")] });
  await ready;
  await ask("The capital?");
  expect(state()).toBe("error");
  get("retry").click();
  await vi.waitFor(() => expect([state(), answers()]).toEqual(["ready", ["Paris."]]));
  expect(loads).toHaveBeenCalledTimes(2);
});

it("leaves what is being typed into the settings alone when the model arrives", async () => {
  let arrive = (): void => {};
  const { ready } = await visit({ answers: [says("x")], loads: [() => new Promise((resolve) => (arrive = resolve))] });
  get("settings").click();
  const field = get<HTMLTextAreaElement>("system-prompt");
  field.focus();
  field.value = "Be br";
  field.dispatchEvent(new Event("input"));
  arrive();
  await ready;
  expect(document.activeElement).toBe(get("system-prompt"));
  expect(get<HTMLTextAreaElement>("system-prompt").value).toBe("Be br");
  expect(get("about").textContent).toContain("tiny");
});

it("keeps the conversations of two tabs apart", async () => {
  await (await visit({ answers: [says("One.")] })).ready;
  await ask("First tab");
  const first = sessionStorage.getItem("argosy.conversation")!;
  sessionStorage.clear(); // another tab starts with a copy
  await (await visit({ answers: [says("Two.")] })).ready;
  await ask("Second tab");
  expect(answers()).toEqual(["One.", "Two."]);
  sessionStorage.setItem("argosy.conversation", first); // back to the first tab
  await (await visit({ answers: [says("x")] })).ready;
  expect(answers()).toEqual(["One."]);
});

it("moves its slider with a decimal comma", async () => {
  await (await visit({ answers: [says("x")] })).ready;
  get("settings").click();
  const field = get<HTMLInputElement>("setting-temperature");
  field.value = "0,35";
  field.dispatchEvent(new Event("input"));
  expect(field.parentElement!.querySelector<HTMLInputElement>("[type=range]")!.value).toBe("0.35");
});

it("says that the next visit loads the model again where the browser has no room for it", async () => {
  await (await visit({ answers: [says("x")] })).ready;
  expect(get("toast").textContent).toContain("no room to keep the model");
});

it("leaves the way back from a new chat alone while someone is at it", async () => {
  await (await visit({ answers: [says("Paris.")] })).ready;
  await ask("The capital?");
  vi.useFakeTimers();
  get("new-chat").click();
  await vi.waitFor(() => expect(get("undo")).not.toBeNull());
  get("undo").focus();
  vi.advanceTimersByTime(60_000);
  expect(get("toast").hidden).toBe(false);
  get("undo").click();
  vi.useRealTimers();
  expect(answers()).toEqual(["Paris."]);
});

it("brings up no keyboard on a touch screen", async () => {
  await (await visit({ answers: [says("Paris.")], touch: true })).ready;
  get("suggestion").click();
  await vi.waitFor(() => expect([state(), answers()]).toEqual(["ready", ["Paris."]]));
  get("regenerate").click();
  await vi.waitFor(() => expect(state()).toBe("ready"));
  expect(document.activeElement).toBe(document.body);
});
