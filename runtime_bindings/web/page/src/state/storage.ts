/** Small values go in and come out again after a reload; where storage is forbidden or full, the page works without. */

const PREFIX = "argosy.";

/** Of this browser, or of this tab alone. */
export type Place = "localStorage" | "sessionStorage";

/** What was kept under `name`, as plain JSON; undefined where there is nothing or nothing that can be read. */
export function recall(name: string, place: Place = "localStorage"): unknown {
  try {
    const text = window[place].getItem(PREFIX + name);
    return text === null ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Keeps `value`; undefined forgets it. False where the browser would not. */
export function keep(name: string, value: unknown, place: Place = "localStorage"): boolean {
  try {
    if (value === undefined) window[place].removeItem(PREFIX + name);
    else window[place].setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
