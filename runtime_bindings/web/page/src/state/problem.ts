/** Explain an error in one sentence, and say what to do in another. */

export interface Problem {
  message: string;
  hint: string;
}

/** Explain `error`. Errors of `@argosy/web` contain both sentences; the others are the browser's. */
export function explain(error: unknown): Problem {
  // Not by `instanceof`: errors from a worker or another frame have other classes.
  const thrown: { name?: unknown; message?: unknown; hint?: unknown } = Object(error);
  const message = typeof thrown.message === "string" ? thrown.message : String(error);
  const { name, hint } = thrown;
  if (/context window/.test(message)) {
    return {
      message: sentence(message),
      hint: "Shorten it, start a new chat, or choose in the settings what to forget when the context is full.",
    };
  }
  if (typeof hint === "string" && hint !== "") return { message: sentence(message), hint: sentence(hint) };
  if (name === "QuotaExceededError") {
    return {
      message: "This browser has no room left to keep the model.",
      hint: "Free some disk space or clear the data of other sites, then try again.",
    };
  }
  if (name === "TypeError" && /fetch|network|load failed/i.test(message)) {
    return {
      message: "The model's files cannot be reached.",
      hint: "Check that the server is running and that you are online, then try again.",
    };
  }
  if (/out of memory|allocation failed/i.test(message)) {
    return {
      message: "There is too little memory for this model.",
      hint: "Close other tabs and programs, or use a smaller model or a 4-bit quantization.",
    };
  }
  return { message: sentence(message || "Something went wrong"), hint: "Try again; if that does not help, reload the page." };
}

/** Whether the model has to be loaded again after `error`. */
export function isFatal(error: unknown): boolean {
  return (Object(error) as { fatal?: unknown }).fatal === true;
}

/** Write `text` as a sentence on a page: capital letter, full stop, quotes instead of backticks. */
export function sentence(text: string): string {
  const line = text.trim().replace(/\s+/g, " ").replace(/`([^`]*)`/g, "“$1”");
  if (line === "") return "";
  const first = line.charAt(0).toUpperCase() + line.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}
