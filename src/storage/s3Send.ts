import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { PutObjectCommand, UploadPartCommand } from "@aws-sdk/client-s3";
import { bodyChanged } from "./failures.js";
import { readPart } from "./parts.js";
import type { S3Target } from "./s3.js";
import type { ObjectBody } from "./storage.js";

type UploadCommand = PutObjectCommand | UploadPartCommand;

export interface SentPart {
  start: number;
  end: number;
  sha256: string;
}

/**
 * Streams a part of the body. Its SHA-256 is signed along with the request, so that the server refuses bytes that were
 * damaged on the way; for a stream the SDK by itself would send them unsigned.
 */
export async function sendBody(
  target: S3Target,
  body: ObjectBody,
  part: SentPart,
  commandFor: (source: Readable) => UploadCommand,
): Promise<{ ETag?: string | undefined }> {
  const stop = new AbortController();
  const source = Readable.from(
    proven(readPart(body, part, target.deed), part.sha256, () => bodyChanged(target.deed, body)),
    { objectMode: false },
  );
  // Nobody else listens, and a request whose body ended in an error would wait for ever.
  source.on("error", (error) => stop.abort(error));
  const command = commandFor(source);
  signPayload(command as PutObjectCommand, part.sha256);
  const abortSignal =
    target.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, target.signal]);
  try {
    return await target.client.send(command as PutObjectCommand, { abortSignal });
  } catch (error) {
    stop.signal.throwIfAborted();
    throw error;
  } finally {
    source.destroy();
  }
}

/** The last chunk goes out only when all of them have the promised digest: what is wrong is never sent whole. */
async function* proven(
  chunks: AsyncIterable<Uint8Array>,
  sha256: string,
  failure: () => Error,
): AsyncIterable<Uint8Array> {
  const hash = createHash("sha256");
  let held: Uint8Array | undefined;
  for await (const chunk of chunks) {
    hash.update(chunk);
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (hash.digest("hex") !== sha256) throw failure();
  if (held !== undefined) yield held;
}

function signPayload(command: PutObjectCommand, sha256: string): void {
  command.middlewareStack.add(
    (next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers["x-amz-content-sha256"] = sha256;
      return next(args);
    },
    { step: "build", name: "signPayload" },
  );
}
