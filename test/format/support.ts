import { isJBackupError, type JBackupError } from "../../src/domain/errors.js";
import {
  newDataKey,
  type ObjectSource,
  openSealed,
  type SealContext,
  sealObject,
} from "../../src/format/format.js";
import { openWhole } from "../../src/format/openWhole.js";

export const BACKUP_ID = "0193a000-0000-7000-8000-00000000000a";
export const CONTEXT: SealContext = {
  site: "shop-prod",
  backupId: BACKUP_ID,
  role: "data",
  tenantId: "acme",
  name: "data/000001.jbk",
};
export const DATA_KEY = newDataKey();

export async function* inChunks(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function collect(input: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of input) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Bytes in memory as a stored object; `reads` says which ranges were asked for. */
export function sourceOf(bytes: Buffer, chunkBytes = 777): ObjectSource & { reads: [number, number][] } {
  const reads: [number, number][] = [];
  return {
    bytes: bytes.length,
    reads,
    read: (start, end) => {
      reads.push([start, end]);
      return inChunks(bytes.subarray(start, end), chunkBytes);
    },
  };
}

export async function seal(
  raw: Uint8Array,
  options: {
    codec?: "zstd" | "gzip" | "none";
    frameBytes?: number;
    context?: SealContext;
    dataKey?: Buffer;
  } = {},
): Promise<Buffer> {
  const { codec = "zstd", frameBytes = 1024, context = CONTEXT, dataKey = DATA_KEY } = options;
  const input = inChunks(raw);
  const object = await sealObject(input, { dataKey, context, frameBytes, compression: { codec, level: 3 } });
  return Buffer.concat(object.chunks);
}

/** Read as a stream and from memory: both must come to the same content, or refuse it with the same words. */
export async function open(sealed: Buffer, context = CONTEXT, dataKey = DATA_KEY): Promise<Buffer> {
  const streamed = collect(openSealed(sourceOf(sealed), dataKey, context));
  const inMemory = (async () => Buffer.concat([...openWhole(sealed, dataKey, context)]))();
  const [one, other] = await Promise.allSettled([streamed, inMemory]);
  const refusals = [one, other].map((ended) => (ended.status === "rejected" ? ended.reason : undefined));
  const isSame =
    one.status === "fulfilled" && other.status === "fulfilled"
      ? one.value.equals(other.value)
      : refusals[0]?.message === refusals[1]?.message && refusals[0]?.code === refusals[1]?.code;
  if (!isSame) throw new Error(`a stream and memory are not read alike: ${refusals.map(String).join(" / ")}`);
  return streamed;
}

/** Text that shrinks, and a stretch that does not. */
export function sampleBytes(bytes: number): Buffer {
  const sample = Buffer.alloc(bytes);
  for (let at = 0, state = 7; at < bytes; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    sample[at] = at % 4096 < 2048 ? 97 + (at % 13) : state >>> 24;
  }
  return sample;
}

/** Where header, frames, index and trailer of a container stand, read as FORMAT.md says. */
export function partsOf(sealed: Buffer): {
  opening: Buffer;
  frames: Buffer[];
  index: Buffer;
  trailer: Buffer;
} {
  let at = sealed.readUInt16BE(10) + 20;
  const opening = sealed.subarray(0, at);
  const pieces: Buffer[] = [];
  while (at < sealed.length - 16) {
    const end = at + 32 + sealed.readUInt32BE(at + 8);
    pieces.push(sealed.subarray(at, end));
    at = end;
  }
  const index = pieces.pop() as Buffer;
  return { opening, frames: pieces, index, trailer: sealed.subarray(-16) };
}

/** The jbackup error that the promise is rejected with; anything else fails the test. */
export async function errorOf(promise: Promise<unknown>): Promise<JBackupError> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if (!("error" in outcome)) throw new Error("it was expected to fail, and did not");
  if (!isJBackupError(outcome.error)) throw outcome.error;
  return outcome.error;
}

export const thrownBy = (act: () => unknown): Promise<JBackupError> => errorOf((async () => act())());
