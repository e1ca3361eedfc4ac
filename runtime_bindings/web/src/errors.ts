/** An error to show: what is wrong, in one sentence, and what to do about it. */
export class ArgosyError extends Error {
  constructor(
    message: string,
    /** How to fix it, or empty. */
    readonly hint = "",
    /** Whether the model is unusable and has to be loaded again. */
    readonly fatal = false,
  ) {
    super(message);
    this.name = "ArgosyError";
  }
}

/** Return `error`, or an explanation if it means that the browser lacks memory for `what`. */
export function orTooLarge(error: unknown, what: string): unknown {
  if (error instanceof ArgosyError) return error;
  if (!(error instanceof RangeError) && !/out of memory|allocation failed|could not allocate/i.test(oneLine(error))) return error;
  const hint = "close other tabs and programs, or use a smaller model";
  return new ArgosyError(`this browser has too little memory for ${what}`, hint);
}

/** Put the text of a thrown value on one line of limited length. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, " ").trim().slice(0, 300);
}
