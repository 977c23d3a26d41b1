import { createHash, type Hash } from "node:crypto";
import { bodyChanged, type Deed } from "./failures.js";
import type { ObjectBody } from "./storage.js";

const MOST_PARTS = 10_000;

export interface Part {
  number: number;
  start: number;
  end: number;
}

/** Equal parts, as R2 demands; bigger ones when there would be too many. */
export function partsOf(bytes: number, wantedPartBytes: number): Part[] {
  const partBytes = Math.max(wantedPartBytes, Math.ceil(bytes / MOST_PARTS));
  return Array.from({ length: Math.max(1, Math.ceil(bytes / partBytes)) }, (_, index) => ({
    number: index + 1,
    start: index * partBytes,
    end: Math.min(bytes, (index + 1) * partBytes),
  }));
}

/** Reads a part of the body, and fails when it is not as long as it must be: a server would wait for the rest. */
export async function* readPart(
  body: ObjectBody,
  part: Omit<Part, "number">,
  deed: Deed,
): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body.read(part.start, part.end)) {
    bytes += chunk.length;
    if (bytes > part.end - part.start) break;
    yield chunk;
  }
  if (bytes !== part.end - part.start) throw bodyChanged(deed, body);
}

export interface SendingParts<T> {
  body: ObjectBody;
  parts: Part[];
  parallel: number;
  /** What the server checks each part by. */
  algorithm: "sha1" | "sha256";
  deed: Deed;
  signal: AbortSignal | undefined;
  send(part: Part, digest: string, signal: AbortSignal): Promise<T>;
}

/**
 * Sends the parts, some at a time; resolves once all have arrived, in their order. Digests are taken in a first reading,
 * which also proves that the parts together are the promised body. After the first failure the others are stopped,
 * and it rejects only when none is under way any more.
 */
export async function sendParts<T>(sending: SendingParts<T>): Promise<T[]> {
  const stop = new AbortController();
  const signal = sending.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, sending.signal]);
  const underWay = new Set<Promise<unknown>>();
  const sent: Promise<T>[] = [];
  const whole = createHash("sha256");
  let failure: { error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    stop.abort(error);
  };
  try {
    for (const part of sending.parts) {
      while (underWay.size >= sending.parallel) await Promise.race(underWay);
      signal.throwIfAborted();
      const digest = await digestOf(sending, part, whole);
      // Before the last part goes out, so that a body that is not the promised one is never sent whole.
      if (part === sending.parts.at(-1) && whole.digest("hex") !== sending.body.sha256)
        throw bodyChanged(sending.deed, sending.body);
      const promise = sending.send(part, digest, signal);
      sent.push(promise);
      const settled = promise.then(() => {}, fail).finally(() => underWay.delete(settled));
      underWay.add(settled);
    }
  } catch (error) {
    fail(error);
  }
  await Promise.all(underWay);
  if (failure !== undefined) throw failure.error;
  return Promise.all(sent);
}

async function digestOf<T>(
  { body, deed, algorithm }: SendingParts<T>,
  part: Part,
  whole: Hash,
): Promise<string> {
  const hash = createHash(algorithm);
  for await (const chunk of readPart(body, part, deed)) {
    hash.update(chunk);
    whole.update(chunk);
  }
  return hash.digest("hex");
}
