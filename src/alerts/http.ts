import { channelFailed, plainReason } from "./failure.js";

const LIMIT_MS = 10_000;

export interface Post {
  url: string;
  body: string;
  headers: Record<string, string>;
}

/** One request with a limit of its own. What the other side answers is not repeated: it may quote the address and its token. */
export async function post(name: string, { url, body, headers }: Post, signal: AbortSignal): Promise<void> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  let response: Response;
  try {
    response = await fetch(url, { method: "POST", body, headers, signal: limit, redirect: "error" });
  } catch (error) {
    const why = limit.aborted ? `no answer within ${LIMIT_MS / 1000} s` : plainReason(error);
    throw channelFailed(name, `could not be reached: ${why}`, error);
  }
  await response.body?.cancel();
  if (!response.ok) throw channelFailed(name, `was refused: HTTP ${response.status}`);
}

/** A sign of life for a service that watches for its absence. */
export async function ping(url: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { method: "POST", signal });
  await response.arrayBuffer();
  if (!response.ok) throw channelFailed("heartbeat", `was refused: HTTP ${response.status}`);
}
