/** The chat page in Chromium, and what a person sees and does there. */

const get = (page, id) => page.getByTestId(id);

/** Waits until the page has reached one of `states`: loading, ready, generating, error. */
export async function reach(page, states, timeout = 120_000) {
  const wanted = [states].flat();
  await page.waitForFunction(
    (wanted) => wanted.includes(document.querySelector("#status")?.dataset.state), wanted, { timeout, polling: 50 },
  );
}

/** Opens `url` and follows the loading until it ends: what the progress bar said, and how long it took. */
export async function load(page, url) {
  await page.addInitScript(() => {
    window.watched = [];
    document.addEventListener("DOMContentLoaded", () => {
      const status = document.querySelector("#status");
      const look = () => {
        const stage = document.querySelector("#loading-stage").textContent;
        const value = document.querySelector("#progress").value;
        const detail = document.querySelector("#loading-detail").textContent;
        const last = window.watched.at(-1);
        if (last?.stage !== stage || last?.value !== value) window.watched.push({ stage, value, detail });
        if (status.dataset.state === "loading") requestAnimationFrame(look);
      };
      look();
    });
  });
  const started = performance.now();
  await page.goto(url);
  await reach(page, ["ready", "error"]);
  return { seconds: (performance.now() - started) / 1000, progress: await page.evaluate(() => window.watched) };
}

/** Types `text` and sends it with Enter. */
export async function send(page, text) {
  await get(page, "input").fill(text);
  await get(page, "input").press("Enter");
}

/** The last answer as it stands: its text, whether it is still being written, how it ended and its figures. */
export const answer = (page) =>
  page.evaluate(() => {
    const turn = [...document.querySelectorAll('[data-testid="message"][data-role="assistant"]')].at(-1);
    const text = (id) => turn?.querySelector(`[data-testid="${id}"]`)?.innerText.replace(/\s+/g, " ").trim() ?? "";
    const busy = turn?.getAttribute("aria-busy") === "true";
    return turn ? { text: text("answer"), busy, ending: text("ending"), stats: text("stats") } : null;
  });

/** Watches the last answer until it ends, or until `until(answer)` says so: the texts that were seen on the way. */
export async function follow(page, until = () => false, timeout = 120_000) {
  const texts = [];
  const end = performance.now() + timeout;
  while (performance.now() < end) {
    const now = await answer(page);
    if (now && now.text !== (texts.at(-1) ?? "")) texts.push(now.text);
    if (now && (!now.busy || until(now))) return { ...now, texts };
    await page.waitForTimeout(20);
  }
  throw new Error(`no end of the answer within ${timeout} ms: ${JSON.stringify(await answer(page))}`);
}

/** Changes settings by name, such as { temperature: 0 }; `system` is the system prompt. */
export async function set(page, settings) {
  await get(page, "settings").click();
  for (const [name, value] of Object.entries(settings)) {
    await get(page, name === "system" ? "system-prompt" : `setting-${name}`).fill(String(value));
  }
  await get(page, "settings-close").click();
}

/** How many turns are shown. */
export const turns = (page) => get(page, "message").count();

/** What the notice says: one sentence, and what to do. Null where there is none. */
export async function problem(page) {
  if (!(await get(page, "error").isVisible())) return null;
  return { message: await get(page, "error-message").innerText(), hint: await get(page, "error-hint").innerText() };
}
