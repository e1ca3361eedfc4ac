import { ChatModule } from "@argosy/web";

const [status, talk, form, question] = ["#status", "#talk", "form", "#question"].map((name) => document.querySelector(name));
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

function onProgress({ stage, loaded, total }) {
  status.textContent = `Loading ${stage}: ${Math.floor((100 * loaded) / total)} %`;
}

function explain(error) {
  status.textContent = [error.message, error.hint].filter(Boolean).join(". ");
}

async function answer(chat, text) {
  talk.textContent += `> ${text}\n`;
  for await (const piece of chat.generate(text, { max_tokens: 300 })) talk.textContent += piece;
  talk.textContent += "\n\n";
  const { decodeTokensPerSecond, timeToFirstToken } = chat.stats();
  status.textContent = `${decodeTokensPerSecond.toFixed(1)} tokens/s, first after ${timeToFirstToken.toFixed(2)} s`;
}

try {
  const chat = await ChatModule.inWorker(worker, "/artefact/", { onProgress });
  status.textContent = `${chat.model.name} on ${chat.model.adapter}`;
  for (const element of form.elements) element.disabled = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = question.value;
    question.value = "";
    answer(chat, text).catch(explain);
  });
} catch (error) {
  explain(error);
}
