/** What is wrong, in one sentence, and what to do about it. */
export class ArgosyError extends Error {
  constructor(
    message: string,
    /** What mends it; empty where nobody knows. */
    readonly hint = "",
  ) {
    super(message);
    this.name = "ArgosyError";
  }
}

/** `error` as one of ours: what went wrong while doing `what`. */
export function asArgosyError(error: unknown, what: string): ArgosyError {
  if (error instanceof ArgosyError) return error;
  return new ArgosyError(`${what}: ${oneLine(error)}`);
}

/** The text of anything that was thrown, on one line and not too long. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, " ").trim().slice(0, 300);
}
