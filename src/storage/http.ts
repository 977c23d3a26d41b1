import * as http from "node:http";
import * as https from "node:https";
import { pipeline } from "node:stream/promises";

export interface Exchange {
  url: string;
  method: "GET" | "POST";
  headers: Record<string, string>;
  /** Sent as it is read, never held in memory; its length stands in the headers. */
  body?: AsyncIterable<Uint8Array> | string;
  signal: AbortSignal | undefined;
}

/** Requests over kept connections, each given up when its socket is idle for too long. */
export class HttpClient {
  readonly #agents: { "http:": http.Agent; "https:": https.Agent };
  readonly #idleMs: number;

  constructor(idleMs: number) {
    this.#idleMs = idleMs;
    this.#agents = {
      "http:": new http.Agent({ keepAlive: true }),
      "https:": new https.Agent({ keepAlive: true }),
    };
  }

  /** Resolves with the answer's head whatever its status; the body is the caller's to read or to destroy. */
  exchange(exchange: Exchange): Promise<http.IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const url = new URL(exchange.url);
    const options = {
      method: exchange.method,
      headers: exchange.headers,
      ...(exchange.signal ? { signal: exchange.signal } : {}),
    };
    const request =
      url.protocol === "https:"
        ? https.request(url, { ...options, agent: this.#agents["https:"] })
        : http.request(url, { ...options, agent: this.#agents["http:"] });
    request.once("response", resolve);
    request.on("error", reject);
    request.setTimeout(this.#idleMs, () => request.destroy(idle(this.#idleMs)));
    if (exchange.body === undefined || typeof exchange.body === "string") request.end(exchange.body);
    else pipeline(exchange.body, request).catch(reject);
    return promise;
  }

  close(): void {
    this.#agents["http:"].destroy();
    this.#agents["https:"].destroy();
  }
}

const idle = (ms: number): Error =>
  Object.assign(new Error(`the connection was idle for ${ms / 1000} s`), { code: "ETIMEDOUT" });

/** The body of a short answer. The rest of a request that nobody reads any more is not sent. */
export async function textOf(answer: http.IncomingMessage, mostBytes = 1 << 20): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    bytes += (chunk as Buffer).length;
    if (bytes > mostBytes) break;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
