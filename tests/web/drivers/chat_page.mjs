/** Drive the chat page in Chromium the way a person does. */

const get = (page, id) => page.getByTestId(id);

/** Wait until the page has reached one of `states`: loading, ready, generating, error. */
export async function reach(page, states, timeout = 120_000) {
  const wanted = [states].flat();
  await page.waitForFunction(
    (wanted) => wanted.includes(document.querySelector("#status")?.dataset.state), wanted, { timeout, polling: 50 },
  );
}

/** Open `url` and follow the loading; return what the progress bar showed, and how long it took. */
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

/** Type `text` and send it with Enter. */
export async function send(page, text) {
  await get(page, "input").fill(text);
  await get(page, "input").press("Enter");
}

/** Read the last answer: its text, whether it is in progress, how it ended and its figures. */
export const answer = (page) =>
  page.evaluate(() => {
    const turn = [...document.querySelectorAll('[data-testid="message"][data-role="assistant"]')].at(-1);
    const text = (id) => turn?.querySelector(`[data-testid="${id}"]`)?.innerText.replace(/\s+/g, " ").trim() ?? "";
    const busy = turn?.getAttribute("aria-busy") === "true";
    return turn ? { text: text("answer"), busy, ending: text("ending"), stats: text("stats") } : null;
  });

/** Watch the last answer until it ends or `until(answer)` is true; return the texts seen meanwhile. */
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

/** Change settings by name, such as { temperature: 0 }; `system` is the system prompt. */
export async function set(page, settings) {
  await get(page, "settings").click();
  for (const [name, value] of Object.entries(settings)) {
    await get(page, name === "system" ? "system-prompt" : `setting-${name}`).fill(String(value));
  }
  await get(page, "settings-close").click();
}

/** Count the turns shown. */
export const turns = (page) => get(page, "message").count();

/** Read the notice: what is wrong and what to do. Null if there is none. */
export async function problem(page) {
  if (!(await get(page, "error").isVisible())) return null;
  return { message: await get(page, "error-message").innerText(), hint: await get(page, "error-hint").innerText() };
}
