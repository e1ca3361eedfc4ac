/** Check the settings that a user types in, and keep them for the next visit. */

import type { GenerationConfig } from "@argosy/web";

import { INTEGER_RANGES, RANGES } from "../../../src/params.js";
import { keep, recall } from "./storage.js";

export type NumberName =
  | "temperature"
  | "top_p"
  | "top_k"
  | "min_p"
  | "repetition_penalty"
  | "presence_penalty"
  | "frequency_penalty"
  | "max_tokens"
  | "seed";

/** The settings that differ from the model's defaults. */
export type Generation = Partial<Record<NumberName, number>> &
  Partial<Pick<GenerationConfig, "stop" | "on_context_full">>;

interface Bounds {
  low: number;
  high: number;
  /** Excludes `low` itself. */
  openLow: boolean;
  whole: boolean;
}

/** The range of every number; whole numbers end where floats stop being exact. */
const BOUNDS: Record<NumberName, Bounds> = {
  temperature: real("temperature"),
  top_p: real("top_p"),
  min_p: real("min_p"),
  repetition_penalty: real("repetition_penalty"),
  presence_penalty: real("presence_penalty"),
  frequency_penalty: real("frequency_penalty"),
  top_k: whole(INTEGER_RANGES.top_k),
  max_tokens: whole(INTEGER_RANGES.max_tokens),
  seed: whole([0, Number.MAX_SAFE_INTEGER]),
};
export const MAX_STOPS = 16;
export const MAX_STOP_CHARACTERS = 1000;
const MAX_SYSTEM_CHARACTERS = 100_000;

/** The user's settings. Absent ones follow the model. */
export interface Settings {
  /** Empty for none. */
  system: string;
  generation: Generation;
}

/** A value, or one sentence about what it must be; neither for an empty field, which follows the model. */
export interface Checked<T> {
  value?: T;
  problem?: string;
}

/** Read a field of the form. */
export function checkNumber(name: NumberName, text: string): Checked<number> {
  const trimmed = text.trim();
  if (trimmed === "") return {};
  // "1,000" and "1.000" may mean a thousand, so a whole number must have no mark.
  const value = BOUNDS[name].whole && !/^\d+$/.test(trimmed) ? NaN : Number(trimmed.replace(",", "."));
  return allows(BOUNDS[name], value) ? { value } : { problem: `It must be ${allowed(name)}.` };
}

/** Describe what `name` may be: `"a number from 0 to 100"`. */
export function allowed(name: NumberName): string {
  const { low, high, openLow, whole } = BOUNDS[name];
  if (whole) return high > 1e6 ? `a whole number from ${low} up` : `a whole number from ${low} to ${high}`;
  return openLow ? `a number above ${low} and up to ${high}` : `a number from ${low} to ${high}`;
}

/** Read stop strings, one per line; `\n` and `\t` stand for a line break and a tab, `\\` for a backslash. */
export function checkStops(text: string): Checked<string[]> {
  const stops = text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replace(/\\([nt\\])/g, (_, letter: string) => ({ n: "\n", t: "\t" })[letter] ?? "\\"));
  if (stops.length > MAX_STOPS) return { problem: `There may be at most ${MAX_STOPS} texts.` };
  if (stops.some((stop) => stop.length > MAX_STOP_CHARACTERS)) {
    return { problem: `A text may have at most ${MAX_STOP_CHARACTERS} characters.` };
  }
  return stops.length > 0 ? { value: stops } : {};
}

/** Write stop strings the way `checkStops` reads them. */
export function writeStops(stops: readonly string[]): string {
  const names: Record<string, string> = { "\n": "\\n", "\t": "\\t", "\\": "\\\\" };
  return stops.map((stop) => stop.replace(/[\n\t\\]/g, (letter) => names[letter] ?? letter)).join("\n");
}

/** Read the settings of the last visit, without invalid ones. */
export function recallSettings(): Settings {
  const kept = recall("settings");
  return isRecord(kept) ? sanitize(kept) : { system: "", generation: {} };
}

export function keepSettings(settings: Settings): void {
  keep("settings", settings);
}

/** Take only the valid settings of an untrusted record. */
export function sanitize(kept: Record<string, unknown>): Settings {
  const generation: Generation = {};
  const given = isRecord(kept["generation"]) ? kept["generation"] : {};
  for (const name of Object.keys(BOUNDS) as NumberName[]) {
    const value = given[name];
    if (typeof value === "number" && allows(BOUNDS[name], value)) generation[name] = value;
  }
  const stops = given["stop"];
  if (Array.isArray(stops)) {
    const strings = stops.filter((stop): stop is string => typeof stop === "string" && stop !== "");
    const { value } = checkStops(writeStops(strings));
    if (value) generation.stop = value;
  }
  const full = given["on_context_full"];
  if (full === "stop" || full === "slide") generation.on_context_full = full;
  const system = kept["system"];
  return { system: typeof system === "string" ? system.slice(0, MAX_SYSTEM_CHARACTERS) : "", generation };
}

function real(name: keyof typeof RANGES): Bounds {
  const [low, high, openLow] = RANGES[name];
  return { low, high, openLow, whole: false };
}

function whole([low, high]: readonly [number, number]): Bounds {
  return { low, high, openLow: false, whole: true };
}

function allows({ low, high, openLow, whole }: Bounds, value: number): boolean {
  if (!Number.isFinite(value) || value > high || value < low || (openLow && value === low)) return false;
  return !whole || Number.isInteger(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
