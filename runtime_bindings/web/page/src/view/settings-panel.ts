/** The settings panel; valid changes take effect at once. */

import type { ChatStats, ModelInfo } from "@argosy/web";

import {
  checkNumber,
  checkStops,
  type Checked,
  keepSettings,
  type NumberName,
  type Settings,
  writeStops,
} from "../state/settings.js";
import { counted, humanSize, humanTime } from "../state/units.js";
import { byId, element } from "./dom.js";

interface Field {
  name: NumberName;
  label: string;
  help: string;
  /** Ends and step of a slider, if the useful range is narrower than the allowed one. */
  slider?: { min: number; max: number; step: number };
  /** The placeholder of an empty field if the model has no default. */
  none?: string;
}

const FIELDS: readonly Field[] = [
  {
    name: "temperature",
    label: "Temperature",
    help: "Lower sticks to the likeliest words, higher is more varied. 0 always gives the same answer.",
    slider: { min: 0, max: 2, step: 0.05 },
  },
  {
    name: "top_p",
    label: "Top p",
    help: "Chooses among the likeliest words that together have this probability. 1 turns it off.",
    slider: { min: 0.05, max: 1, step: 0.05 },
  },
  { name: "max_tokens", label: "Longest answer", help: "In tokens: words or parts of words.", none: "no limit" },
];
const MORE_FIELDS: readonly Field[] = [
  { name: "top_k", label: "Top k", help: "Chooses among this many of the likeliest words. 0 turns it off." },
  {
    name: "min_p",
    label: "Min p",
    help: "Leaves out words less likely than this, relative to the likeliest. 0 turns it off.",
    slider: { min: 0, max: 0.5, step: 0.01 },
  },
  { name: "repetition_penalty", label: "Repetition penalty", help: "Above 1, words that have been used become less likely." },
  { name: "presence_penalty", label: "Presence penalty", help: "Lowers the score of a word that has been used, once." },
  { name: "frequency_penalty", label: "Frequency penalty", help: "Lowers the score of a word every time it is used." },
  { name: "seed", label: "Seed", help: "The same seed gives the same answer again.", none: "a new one each time" },
];

export class SettingsPanel {
  private readonly dialog = byId<HTMLDialogElement>("settings");
  private readonly body = byId("settings-body");
  private model: ModelInfo | undefined;
  private stats: ChatStats | undefined;
  /** Update the existing fields from the model's defaults: the user may be typing in one. */
  private followers: (() => void)[] = [];

  constructor(
    private readonly settings: Settings,
    private readonly deleteModel: () => void,
  ) {
    byId("settings-open").addEventListener("click", () => {
      this.draw();
      this.dialog.showModal();
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  /** Show the model's defaults and sizes. */
  setModel(model: ModelInfo, stats: ChatStats): void {
    this.model = model;
    this.stats = stats;
    for (const follow of this.followers) follow();
  }

  private draw(): void {
    this.followers = [];
    const reset = element("button", { type: "button", class: "button", "data-testid": "settings-reset" });
    reset.textContent = "Use the model’s defaults";
    reset.addEventListener("click", () => {
      this.settings.generation = {};
      this.save();
      this.draw();
      this.body.querySelector<HTMLElement>("[data-testid=settings-reset]")?.focus();
    });
    this.body.replaceChildren(
      element("p", { class: "sheet-note" }, "Changes apply from your next message."),
      this.systemField(),
      ...FIELDS.map((field) => this.numberField(field)),
      element(
        "details",
        { class: "more", "data-testid": "settings-more" },
        element("summary", {}, "More about sampling"),
        ...MORE_FIELDS.map((field) => this.numberField(field)),
        this.stopsField(),
        this.contextField(),
      ),
      reset,
      this.about(),
    );
  }

  /** Run `show` now, and again when a model is loaded. */
  private follow(show: () => void): void {
    this.followers.push(show);
    show();
  }

  private systemField(): HTMLElement {
    const area = element("textarea", { id: "system-prompt", rows: "4", "data-testid": "system-prompt" });
    area.value = this.settings.system;
    area.placeholder = "For example: You are a patient teacher. Answer in short sentences.";
    area.addEventListener("input", () => {
      this.settings.system = area.value;
      this.save();
    });
    const { frame, help } = field("system-prompt", "System prompt", "", area);
    this.follow(() => {
      area.disabled = this.model?.completesOnly === true;
      help.textContent = area.disabled
        ? "This model has no chat template: it continues your texts and takes no system prompt."
        : "What the model should know, or who it should be, in this chat and every new one.";
    });
    return frame;
  }

  private numberField({ name, label, help, slider, none }: Field): HTMLElement {
    const id = `setting-${name}`;
    const input = element("input", { id, type: "text", inputmode: "decimal", "data-testid": id, class: "number" });
    input.value = this.settings.generation[name]?.toString() ?? "";
    const { frame, complain } = field(id, label, help, input);
    const change = (): void => {
      const { value, problem } = checkNumber(name, input.value);
      complain(problem);
      if (problem !== undefined) return;
      if (value === undefined) delete this.settings.generation[name];
      else this.settings.generation[name] = value;
      this.save();
    };
    input.addEventListener("input", change);
    this.follow(() => (input.placeholder = this.model?.defaults[name]?.toString() ?? none ?? "model’s default"));
    if (slider) {
      const { min, max, step } = slider;
      const bar = element("input", { type: "range", min: `${min}`, max: `${max}`, step: `${step}`, "aria-label": label });
      const follow = (): void => {
        bar.value = `${checkNumber(name, input.value).value ?? this.model?.defaults[name] ?? max}`;
      };
      bar.addEventListener("input", () => {
        input.value = bar.value;
        change();
      });
      input.addEventListener("input", follow);
      this.follow(follow);
      input.before(bar);
    }
    return frame;
  }

  private stopsField(): HTMLElement {
    const area = element("textarea", { id: "setting-stop", rows: "2", "data-testid": "setting-stop" });
    area.value = writeStops(this.settings.generation.stop ?? []);
    const { frame, complain } = field("setting-stop", "Stop at", "The answer ends before any of these texts. One per line.", area);
    area.addEventListener("input", () => {
      const { value, problem }: Checked<string[]> = checkStops(area.value);
      complain(problem);
      if (problem !== undefined) return;
      if (value === undefined) delete this.settings.generation.stop;
      else this.settings.generation.stop = value;
      this.save();
    });
    return frame;
  }

  private contextField(): HTMLElement {
    const id = "setting-on_context_full";
    const choice = element(
      "select",
      { id, "data-testid": id },
      element("option", { value: "stop" }, "End the answer"),
      element("option", { value: "slide" }, "Forget the oldest turns"),
    );
    this.follow(() => {
      choice.value = this.settings.generation.on_context_full ?? this.model?.defaults.on_context_full ?? "stop";
    });
    choice.addEventListener("change", () => {
      this.settings.generation.on_context_full = choice.value === "slide" ? "slide" : "stop";
      this.save();
    });
    return field(id, "When the context is full", "The system prompt is never forgotten.", choice).frame;
  }

  /** Describe the loaded model, with a button to remove it. */
  private about(): HTMLElement {
    const section = element("section");
    this.follow(() => section.replaceChildren(...this.facts()));
    return section;
  }

  private facts(): HTMLElement[] {
    if (this.model === undefined || this.stats === undefined) return [];
    const { name, quantization, adapter, contextWindowSize, kept } = this.model;
    const { weightBytes, kvBytes, loadSeconds } = this.stats;
    const rows: [string, string][] = [
      ["Model", name],
      ["Quantization", quantization],
      ["GPU", adapter || "unnamed"],
      ["Context", counted(contextWindowSize, "token")],
      ["Memory", `${humanSize(weightBytes)} of weights, ${humanSize(kvBytes)} for the context`],
      ["Loaded in", humanTime(loadSeconds)],
      ["Next visit", kept ? "starts from this browser's copy" : "loads it again: this browser has no room to keep it"],
    ];
    const list = element("dl", { class: "about", "data-testid": "about" });
    for (const [term, text] of rows) list.append(element("dt", {}, term), element("dd", {}, text));
    const remove = element("button", { type: "button", class: "button", "data-testid": "delete-model" });
    remove.textContent = "Remove the model from this browser";
    remove.addEventListener("click", () => {
      this.dialog.close();
      this.deleteModel();
    });
    return [element("h3", {}, "About this model"), list, remove];
  }

  private save(): void {
    keepSettings(this.settings);
  }
}

/** Make a field: label, control, help and a place for its error. */
function field(id: string, label: string, advice: string, control: HTMLElement): {
  frame: HTMLElement;
  help: HTMLElement;
  complain: (problem: string | undefined) => void;
} {
  const problem = element("p", { class: "problem", id: `${id}-problem`, "data-testid": `${id}-problem` });
  const row = element("div", { class: "control" }, control);
  const help = element("p", { class: "help", id: `${id}-help` }, advice);
  const frame = element("div", { class: "field" }, element("label", { for: id }, label), row, help, problem);
  control.setAttribute("aria-describedby", `${id}-help ${id}-problem`);
  const complain = (sentence: string | undefined): void => {
    problem.textContent = sentence ?? "";
    control.toggleAttribute("aria-invalid", false);
    if (sentence !== undefined) control.setAttribute("aria-invalid", "true");
  };
  return { frame, help, complain };
}
