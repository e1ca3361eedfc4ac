/** What is wrong, in one sentence, and what to do about it. */
export class ArgosyError extends Error {
  constructor(
    message: string,
    /** What mends it; empty where nobody knows. */
    readonly hint = "",
    /** Whether the model can answer no more, and has to be loaded again. */
    readonly fatal = false,
  ) {
    super(message);
    this.name = "ArgosyError";
  }
}

/** `error` itself, or what to say where it is the browser's word for memory that it does not have for `what`. */
export function orTooLarge(error: unknown, what: string): unknown {
  if (error instanceof ArgosyError) return error;
  if (!(error instanceof RangeError) && !/out of memory|allocation failed|could not allocate/i.test(oneLine(error))) return error;
  const hint = "close other tabs and programs, or take a smaller model";
  return new ArgosyError(`this browser has too little memory for ${what}`, hint);
}

/** The text of anything that was thrown, on one line and not too long. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, " ").trim().slice(0, 300);
}
