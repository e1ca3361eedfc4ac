/** Keep small values across reloads; if storage is forbidden or full, the page works without it. */

const PREFIX = "argosy.";

/** The storage of this browser, or of this tab alone. */
export type Place = "localStorage" | "sessionStorage";

/** Read the value stored under `name`; undefined if there is none, or it is not JSON. */
export function recall(name: string, place: Place = "localStorage"): unknown {
  try {
    const text = window[place].getItem(PREFIX + name);
    return text === null ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Store `value`, or remove it if undefined; false if the browser refuses. */
export function keep(name: string, value: unknown, place: Place = "localStorage"): boolean {
  try {
    if (value === undefined) window[place].removeItem(PREFIX + name);
    else window[place].setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
