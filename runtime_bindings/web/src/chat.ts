/** Chat with a model: load an artefact, stream its answers and keep the conversation. */
import { artefactUrl, manifestPlaces } from "./artefact.js";
import { chatInWorker } from "./client.js";
import { Conversation } from "./conversation.js";
import type { Detokenizer } from "./detokenizer.js";
import type { Request } from "./engine.js";
import { ArgosyError } from "./errors.js";
import { loadModel, type Model } from "./load.js";
import { modelDefaults, resolve } from "./params.js";
import type { Sample } from "./sampler.js";
import { StopStrings } from "./stops.js";
import { FileStore } from "./store.js";
import { checkText } from "./messages.js";
import { ChatTemplate, selectTemplate } from "./template.js";
import type { Tokenizer } from "./tokenizer.js";
import type {
  Chat,
  ChatStats,
  FinishReason,
  GenerateOptions,
  GenerationConfig,
  LoadOptions,
  Message,
  ModelInfo,
  Reply,
} from "./types.js";

/** A model that runs in this thread, with its conversation. */
export class ChatModule implements Chat {
  readonly model: ModelInfo;
  last: Reply | null = null;
  private readonly conversation: Conversation | null;
  private readonly stopTokens: ReadonlySet<number>;
  private promptTokens = 0;
  private busy = false;
  private cancelled = false;
  private unloaded = false;
  /** Counts resets, so that an answer begun before one is not added to the new conversation. */
  private resets = 0;

  private constructor(
    private readonly loaded: Model,
    systemPrompt: string,
  ) {
    const { artefact, tokenizer } = loaded;
    const template = selectTemplate(tokenizer.config["chat_template"]);
    this.model = modelInfo(loaded, template === null);
    const named = tokenizer.idOf(tokenizer.specialTokens["eos_token"] ?? "");
    this.stopTokens = new Set([...artefact.config.eosTokens, ...(named === null ? [] : [named])]);
    if (template === null && systemPrompt) throw this.noTemplate("a system prompt");
    this.conversation =
      template === null
        ? null
        : new Conversation(tokenizer, new ChatTemplate(template, tokenizer.specialTokens), systemPrompt);
  }

  /** Load the artefact at `url`, a directory made by `argosy build --target webgpu`, from any web server. */
  static async load(url: string | URL, options: LoadOptions = {}): Promise<ChatModule> {
    const loaded = await loadModel(url, options);
    try {
      return new ChatModule(loaded, options.systemPrompt ?? "");
    } catch (error) {
      loaded.engine.dispose();
      throw error;
    }
  }

  /** Load it in `worker`, whose script calls `serveWorker()`, so that the page stays responsive. */
  static async inWorker(worker: Worker, url: string | URL, options: LoadOptions = {}): Promise<Chat> {
    return chatInWorker(worker, artefactUrl(url), options);
  }

  /** Remove the files of the artefact at `url` from the browser's cache. */
  static async deleteCache(url: string | URL): Promise<void> {
    const store = await FileStore.open(true);
    for (const place of manifestPlaces(artefactUrl(url))) await store.forget(place);
  }

  get messages(): readonly Message[] {
    return this.conversation?.turns ?? [];
  }

  async *generate(
    prompt: string | readonly Message[],
    options: GenerateOptions = {},
  ): AsyncGenerator<string, void, undefined> {
    this.begin();
    const { signal } = options;
    const stop = (): void => this.stop();
    signal?.addEventListener("abort", stop);
    this.cancelled = signal?.aborted ?? false;
    const resets = this.resets;
    try {
      const config = resolve(options, this.model.defaults);
      const messages = typeof prompt === "string" ? this.asked(prompt) : this.given(prompt);
      const request = this.request(prompt, messages, config, options.template_variables ?? {});
      this.promptTokens = request.prompt.length;
      const answer = new Answer(this.loaded.tokenizer, config.stop);
      let failed = false;
      try {
        yield* answer.run(this.loaded.engine.generate(request));
      } catch (error) {
        failed = true;
        throw error;
      } finally {
        // Also if the caller left the loop early: the text so far stays in the conversation.
        if (!failed && resets === this.resets) this.conclude(messages, answer.reply());
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.busy = false;
      if (this.unloaded) this.loaded.engine.dispose();
    }
  }

  stop(): void {
    this.cancelled = true;
  }

  resetChat(systemPrompt?: string): void {
    if (!this.conversation && systemPrompt) throw this.noTemplate("a system prompt");
    this.stop();
    this.resets++;
    this.last = null;
    this.conversation?.reset(systemPrompt);
  }

  stats(): ChatStats {
    const { engine, artefact, loadSeconds, shaderSeconds } = this.loaded;
    const current = engine.stats;
    return {
      promptTokens: this.promptTokens,
      reusedTokens: current.reusedTokens,
      prefillTokens: current.prefillTokens,
      completionTokens: current.completionTokens,
      prefillTokensPerSecond: rate(current.prefillTokens, current.prefillSeconds),
      decodeTokensPerSecond: rate(current.decodeTokens, current.decodeSeconds),
      timeToFirstToken: current.firstTokenSeconds,
      contextUsed: engine.contextUsed,
      contextSize: engine.contextWindow,
      loadSeconds,
      shaderSeconds,
      weightBytes: artefact.weightBytes,
      kvBytes: engine.kvBytes,
    };
  }

  unload(): void {
    if (this.unloaded) return;
    this.unloaded = this.cancelled = true;
    if (!this.busy) this.loaded.engine.dispose();
  }

  private begin(): void {
    if (this.unloaded) throw new ArgosyError("the model was unloaded", "load it again");
    if (this.busy) {
      const hint = "wait until it ends, or call `stop()` and let its loop finish";
      throw new ArgosyError("this model is generating another answer", hint);
    }
    this.busy = true;
  }

  private asked(question: string): Message[] {
    return this.conversation?.withQuestion(question) ?? [];
  }

  private given(messages: readonly Message[]): Message[] {
    if (!this.conversation) throw this.noTemplate("a list of messages");
    return this.conversation.check(messages);
  }

  private request(
    prompt: string | readonly Message[],
    messages: readonly Message[],
    config: GenerationConfig,
    variables: Readonly<Record<string, unknown>>,
  ): Request {
    const { conversation, loaded } = this;
    const window = loaded.engine.contextWindow;
    let tokens: number[];
    let protect = 0;
    if (!conversation) {
      tokens = this.plain(prompt as string);
    } else if (config.on_context_full === "slide") {
      tokens = conversation.fitted(messages, variables, window, config.max_tokens);
      protect = Math.min(conversation.protected(messages, tokens, variables), Math.floor(window / 2));
    } else {
      tokens = conversation.tokens(messages, variables);
    }
    const stopTokens = config.ignore_eos ? new Set<number>() : this.stopTokens;
    return { prompt: tokens, config, stopTokens, protect, cancelled: () => this.cancelled };
  }

  /** Encode the prompt of a model without a chat template; an empty one becomes the token that begins a text. */
  private plain(text: string): number[] {
    const tokens = this.loaded.tokenizer.encode(checkText(text, "the prompt"), true);
    const { bosToken } = this.loaded.artefact.config;
    if (tokens.length || bosToken === null) return tokens;
    return [bosToken];
  }

  private conclude(messages: readonly Message[], reply: Reply): void {
    this.last = reply;
    this.conversation?.commit(messages, reply.text);
  }

  private noTemplate(what: string): ArgosyError {
    const message = `\`${this.model.name}\` has no chat template, so it cannot take ${what}`;
    return new ArgosyError(message, "pass a text to continue");
  }
}

/** An answer while it is generated. */
class Answer {
  private text = "";
  private finishReason: FinishReason = "cancelled";
  private readonly samples: Sample[] = [];

  private readonly stops: StopStrings;
  private readonly stopTokens: ReadonlyMap<number, string>;
  private readonly detokenizer: Detokenizer;

  constructor(
    private readonly tokenizer: Tokenizer,
    stop: readonly string[],
  ) {
    this.stops = new StopStrings(stop, tokenizer.hiddenTexts);
    this.stopTokens = new Map(stop.flatMap((text) => tokenizer.tokensOf(text).map((token) => [token, text] as const)));
    this.detokenizer = tokenizer.detokenizer();
  }

  /** Yield pieces of text as soon as no stop string can begin in them. */
  async *run(tokens: AsyncGenerator<Sample, FinishReason, undefined>): AsyncGenerator<string, void, undefined> {
    while (this.stops.found === null) {
      const step = await tokens.next();
      if (step.done) {
        this.finishReason = step.value;
        break;
      }
      this.samples.push(step.value);
      const { token } = step.value;
      const piece = this.detokenizer.add(token);
      yield* this.piece(this.stops.add(piece, this.tokenizer.hiddenText(token), this.stopTokens.get(token) ?? null));
    }
    yield* this.piece(this.stops.add(this.detokenizer.finish()) + this.stops.finish());
    if (this.stops.found !== null) this.finishReason = "stop";
  }

  reply(): Reply {
    const { text, finishReason, samples } = this;
    const logprobs = samples.map((sample) => sample.logprob).filter((logprob) => logprob !== null);
    return { text, finishReason, tokens: samples.map((sample) => sample.token), logprobs };
  }

  private *piece(text: string): Generator<string, void, undefined> {
    if (!text) return;
    this.text += text;
    yield text;
  }
}

function rate(tokens: number, seconds: number): number {
  return seconds ? tokens / seconds : 0;
}

function modelInfo({ artefact, engine, kept }: Model, completesOnly: boolean): ModelInfo {
  const { name, library, weightBytes, tokenizerFiles, config } = artefact;
  return {
    name,
    modelType: config.modelType,
    quantization: config.quantization,
    contextWindowSize: engine.contextWindow,
    vocabSize: config.vocabSize,
    downloadBytes: library.bytes + weightBytes + tokenizerFiles.reduce((sum, source) => sum + source.bytes, 0),
    kept,
    adapter: engine.library.gpu.description,
    completesOnly,
    defaults: modelDefaults(config.sampling),
  };
}
