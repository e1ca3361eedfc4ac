/** Make and find elements. */

/** Find an element of the page's HTML by its id. */
export function byId<T extends Element = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found as unknown as T;
}

/** Make an element with attributes and children; strings become text, never HTML. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | boolean> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Make the icon `#icon-NAME`, hidden from screen readers. */
export function icon(name: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  drawing.append(use);
  return drawing;
}

/** Copy `text` to the clipboard; false if the browser forbids it. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Make a button that copies a text and briefly shows whether it worked. */
export function copyButton(label: string, text: () => string, attributes: Record<string, string> = {}): HTMLElement {
  const word = element("span", {}, "Copy");
  const button = element("button", { type: "button", class: "quiet-button", "aria-label": label, ...attributes });
  button.append(icon("copy"), word);
  button.addEventListener("click", async () => {
    const done = await copyText(text());
    word.textContent = done ? "Copied" : "Not allowed";
    byId("announcer").textContent = done ? "Copied" : "Copying is not allowed";
    button.firstElementChild?.replaceWith(icon(done ? "check" : "alert"));
    setTimeout(() => {
      word.textContent = "Copy";
      button.firstElementChild?.replaceWith(icon("copy"));
    }, 1600);
  });
  return button;
}
