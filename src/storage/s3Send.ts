import { Readable } from "node:stream";
import type { PutObjectCommand, UploadPartCommand } from "@aws-sdk/client-s3";
import { type Part, readPart } from "./parts.js";
import type { S3Target } from "./s3.js";
import type { ObjectBody } from "./storage.js";

type UploadCommand = PutObjectCommand | UploadPartCommand;

export interface SentBody {
  Body: Readable;
  ContentLength: number;
}

/**
 * Streams a part of the body. Its SHA-256 is signed along with the request, so that the server refuses bytes that were
 * damaged on the way; for a stream the SDK by itself would send them unsigned.
 */
export async function sendBody(
  target: S3Target,
  body: ObjectBody,
  part: Part,
  sha256: string,
  commandFor: (sent: SentBody) => UploadCommand,
): Promise<{ ETag?: string | undefined }> {
  const stop = new AbortController();
  const source = Readable.from(readPart(body, part, target.deed), { objectMode: false });
  // Nobody else listens, and a request whose body ended in an error would wait for ever.
  source.on("error", (error) => stop.abort(error));
  const command = commandFor({
    Body: source,
    ContentLength: part.end - part.start,
  });
  signPayload(command as PutObjectCommand, sha256);
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

function signPayload(command: PutObjectCommand, sha256: string): void {
  command.middlewareStack.add(
    (next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers["x-amz-content-sha256"] = sha256;
      return next(args);
    },
    { step: "build", name: "signPayload" },
  );
}
