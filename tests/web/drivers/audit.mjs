/** Find violations of WCAG 2.2 (A, AA) and of best practices on a page, with axe-core. */

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { WEB } from "./chromium.mjs";

const AXE = fs.readFileSync(createRequire(path.join(WEB, "package.json")).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Wait for animations to end; return one line per element that breaks a rule. */
export async function audit(page) {
  await page.evaluate(() => {
    const ending = document.getAnimations().filter((animation) => animation.effect.getComputedTiming().endTime < Infinity);
    return Promise.allSettled(ending.map((animation) => animation.finished));
  });
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const { violations } = await page.evaluate((values) => axe.run(document, { runOnly: { type: "tag", values } }), RULES);
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`));
}
