import type { UploadUrl } from "backblaze-b2";
import { B2Refusal } from "./b2Failures.js";
import type { Account, B2Session } from "./b2Session.js";
import { type Deed, isNetworkError, storageFailure } from "./failures.js";
import { textOf } from "./http.js";
import { type Part, partsOf, readPart, sendParts } from "./parts.js";
import type { ObjectBody } from "./storage.js";

const CANCEL_WITHIN_MS = 5_000;

/**
 * Upload URLs belong to one storage pod and serve one upload at a time; after any failure the pod may be full or gone,
 * and a fresh URL leads to another one at once.
 */
export class UploadUrls {
  readonly #fetch: () => Promise<UploadUrl>;
  readonly #idle: UploadUrl[] = [];

  constructor(fetch: () => Promise<UploadUrl>) {
    this.#fetch = fetch;
  }

  async use<T>(signal: AbortSignal | undefined, upload: (url: UploadUrl) => Promise<T>): Promise<T> {
    try {
      return await this.#once(this.#idle.pop() ?? (await this.#fetch()), upload);
    } catch (error) {
      signal?.throwIfAborted();
      const isWorthAnother =
        error instanceof B2Refusal ? error.isPassing || error.isExpiredToken : isNetworkError(error);
      // An explicit pause is for the retries outside to keep.
      if (!isWorthAnother || (error instanceof B2Refusal && error.retryAfter !== undefined)) throw error;
      return this.#once(await this.#fetch(), upload);
    }
  }

  async #once<T>(url: UploadUrl, upload: (url: UploadUrl) => Promise<T>): Promise<T> {
    const result = await upload(url);
    this.#idle.push(url);
    return result;
  }
}

export interface B2Target {
  session: B2Session;
  /** The configured prefix included. */
  fileName: string;
  deed: Deed;
  signal: AbortSignal | undefined;
}

interface Uploaded {
  fileId: string;
  contentLength: number;
  contentSha1: string;
}

export const encodedName = (fileName: string): string =>
  fileName.split("/").map(encodeURIComponent).join("/");

/** The whole body in one request; answers the id of the new version. */
export async function uploadWhole(target: B2Target, body: ObjectBody, urls: UploadUrls): Promise<string> {
  const [uploaded] = await sendParts({
    body,
    parts: partsOf(body.bytes, Math.max(1, body.bytes)),
    parallel: 1,
    algorithm: "sha1",
    deed: target.deed,
    signal: target.signal,
    send: (part, sha1, signal) => {
      const headers = {
        "X-Bz-File-Name": encodedName(target.fileName),
        "Content-Type": "application/octet-stream",
        "X-Bz-Content-Sha1": sha1,
        "X-Bz-Info-sha256": body.sha256,
      };
      return urls.use(signal, (url) => send({ ...target, signal }, body, part, url, headers));
    },
  });
  return uploaded?.fileId ?? "";
}

async function send(
  target: B2Target,
  body: ObjectBody,
  part: Part,
  url: UploadUrl,
  headers: Record<string, string>,
): Promise<Uploaded> {
  const bytes = part.end - part.start;
  const answer = await target.session.request({
    url: url.uploadUrl,
    method: "POST",
    headers: { Authorization: url.authorizationToken, "Content-Length": String(bytes), ...headers },
    body: readPart(body, part, target.deed),
    signal: target.signal,
  });
  const uploaded = JSON.parse(await textOf(answer)) as Uploaded;
  if (uploaded.contentLength !== bytes || uploaded.contentSha1 !== headers["X-Bz-Content-Sha1"])
    throw storageFailure("storage_unavailable", target.deed, "B2 acknowledged other bytes than were sent");
  return uploaded;
}

/** A long body in parts. Nothing is visible before the last step, and a failure takes the parts away again. */
export async function uploadInParts(
  target: B2Target,
  body: ObjectBody,
  how: { partBytes: number; parallel: number },
): Promise<string> {
  const { session, fileName, deed, signal } = target;
  const { fileId } = await session.call((b2, { bucketId }: Account) =>
    b2.startLargeFile({
      bucketId,
      fileName,
      contentType: "application/octet-stream",
      axiosOverride: { signal, data: { fileInfo: { sha256: body.sha256 } } },
    }),
  );
  const urls = new UploadUrls(() =>
    session.call((b2) => b2.getUploadPartUrl({ fileId, axiosOverride: { signal } })),
  );
  try {
    const partSha1Array = await sendParts({
      body,
      parts: partsOf(body.bytes, how.partBytes),
      parallel: how.parallel,
      algorithm: "sha1",
      deed,
      signal,
      send: async (part, sha1, partSignal) => {
        const headers = { "X-Bz-Part-Number": String(part.number), "X-Bz-Content-Sha1": sha1 };
        await urls.use(partSignal, (url) =>
          send({ ...target, signal: partSignal }, body, part, url, headers),
        );
        return sha1;
      },
    });
    await session.call((b2) => b2.finishLargeFile({ fileId, partSha1Array, axiosOverride: { signal } }));
    return fileId;
  } catch (error) {
    await cancel(session, fileId);
    throw error;
  }
}

/** As far as it goes: the failure that led here is the one to report, and sweep ends what stays behind. */
async function cancel(session: B2Session, fileId: string): Promise<void> {
  const signal = AbortSignal.timeout(CANCEL_WITHIN_MS);
  await session.call((b2) => b2.cancelLargeFile({ fileId, axiosOverride: { signal } })).catch(() => {});
}
