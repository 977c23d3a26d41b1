import { isJBackupError } from "../domain/errors.js";
import {
  checkRange,
  type Deed,
  endsTooEarly,
  objectMissing,
  plainCause,
  storageFailure,
} from "./failures.js";
import type { GetOptions } from "./storage.js";

export interface ReadRequest {
  start: number;
  /** Unknown until the first answer when the whole object is wanted. */
  end: number | undefined;
  /** Identifies the object that the first answer was about: the rest must be of the same one. */
  tag: string | undefined;
}

export interface OpenedRead {
  chunks: AsyncIterable<Uint8Array>;
  tag: string;
  /** Of the whole object. */
  objectBytes: number;
}

export interface ReadSource {
  open(request: ReadRequest): Promise<OpenedRead>;
  /** HTTP has no empty ranges; the object must be there all the same. */
  exists(): Promise<boolean>;
}

const RESUMPTIONS_WITHOUT_PROGRESS = 3;

/** Reads over a network: when the body breaks off, asks at once for the rest, and never ends short of what was asked for. */
export async function* resumedRead(
  deed: Deed,
  options: GetOptions,
  source: ReadSource,
): AsyncIterable<Uint8Array> {
  let { start: at, end }: { start: number; end: number | undefined } = options.range
    ? checkRange(options.range)
    : { start: 0, end: undefined };
  if (at === end && !(await source.exists())) throw objectMissing(deed.storage, deed.key);
  if (at === end) return;
  let tag: string | undefined;
  let broken: unknown;
  for (let fruitless = 0; fruitless <= RESUMPTIONS_WITHOUT_PROGRESS; fruitless++) {
    options.signal?.throwIfAborted();
    const opened = await source.open({ start: at, end, tag });
    tag = opened.tag;
    end ??= opened.objectBytes;
    if (end > opened.objectBytes) throw endsTooEarly(deed, opened.objectBytes, end);
    try {
      for await (const chunk of opened.chunks) {
        if (at + chunk.length > end)
          throw storageFailure("storage_unavailable", deed, "the answer is longer than asked for");
        at += chunk.length;
        fruitless = 0;
        yield chunk;
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      if (isJBackupError(error)) throw error;
      broken = error;
    }
    if (at === end) return;
  }
  const reason = `the connection broke off ${end === undefined ? 0 : end - at} bytes before the end`;
  throw storageFailure("storage_unavailable", deed, reason, {
    cause: broken === undefined ? undefined : plainCause(broken),
  });
}
