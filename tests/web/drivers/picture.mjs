/** Ask `questions` on the chat page at `url`, always with the likeliest token, and save a picture of it as `picture`. */

import { follow, load, send, set } from "./chat_page.mjs";
import { finish, launch, options, watchedPage } from "./chromium.mjs";

const { chromium, url, driver, picture, questions } = options();
const context = await launch({ executable: chromium, driver, viewport: { width: 1000, height: 700 }, colorScheme: "light" });
const { page, seen } = await watchedPage(context);
await load(page, url);
await set(page, { temperature: 0 });
const answers = [];
for (const [place, question] of questions.entries()) {
  await send(page, question);
  await page.waitForFunction((turns) => document.querySelectorAll('[data-testid="message"]').length === turns, 2 * place + 2);
  answers.push(await follow(page, () => false, 300_000));
}
await page.mouse.move(0, 0);
await page.waitForTimeout(500);
await page.screenshot({ path: picture, animations: "disabled" });
await context.close();
finish({ answers: answers.map(({ text, ending, stats }) => ({ text, ending, stats })), errors: seen.errors });
