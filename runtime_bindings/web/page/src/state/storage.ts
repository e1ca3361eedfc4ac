/** Small values go in and come out again after a reload; where storage is forbidden or full, the page works without. */

const PREFIX = "argosy.";

/** What was kept under `name`, as plain JSON; undefined where there is nothing or nothing that can be read. */
export function recall(name: string): unknown {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Keeps `value`; undefined forgets it. False where the browser would not. */
export function keep(name: string, value: unknown): boolean {
  try {
    if (value === undefined) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
