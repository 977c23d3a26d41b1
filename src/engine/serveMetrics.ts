import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { metricsText } from "../domain/metrics.js";
import { metricsOf } from "./metrics.js";
import type { Site } from "./site.js";
import { siteStatus } from "./status.js";

export interface ListenPlace {
  host: string;
  port: number;
}

/** However many ask: what was gathered so recently is told again. */
const FRESH_MS = 5_000;
const TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Serves /metrics and /healthz until it is stopped. */
export async function serveMetrics(
  site: Site,
  place: ListenPlace,
  onReady: (at: ListenPlace) => void,
): Promise<void> {
  const gather = gathering(site);
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    const path = (request.url ?? "/").replace(/\?.*/, "");
    const isLook = request.method === "GET" || request.method === "HEAD";
    if (!isLook) return answer(response, 405, "only GET is known here\n", { allow: "GET, HEAD" });
    if (path === "/healthz" || path === "/metrics") {
      void gather().then(
        (text) => answer(response, 200, path === "/metrics" ? text : "ok\n"),
        (error: unknown) => answer(response, 503, `${reasonOf(error)}\n`),
      );
      return;
    }
    answer(response, 404, "there is /metrics and /healthz\n");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(cannotListen(place, error)));
    server.listen(place.port, place.host, resolve);
  });
  onReady({ host: place.host, port: (server.address() as AddressInfo).port });
  await new Promise<void>((resolve) => {
    if (site.signal.aborted) resolve();
    else site.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

const cannotListen = ({ host, port }: ListenPlace, error: NodeJS.ErrnoException): JBackupError =>
  new JBackupError("environment", `cannot listen on ${host}:${port}: ${error.message}`, {
    hint:
      error.code === "EADDRINUSE"
        ? "something else listens there: choose another port, or end it"
        : "give an address of this host and a free port: jbackup metrics --listen 127.0.0.1:9187",
    cause: error,
  });

const answer = (
  response: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void => {
  response.writeHead(status, { "content-type": TYPE, ...headers }).end(text);
};

/** One look at a time, shared by all who ask meanwhile. */
function gathering(site: Site): () => Promise<string> {
  let last: { text: Promise<string>; atMs: number } | undefined;
  return () => {
    const nowMs = site.clock.monotonicMs();
    if (last !== undefined && nowMs - last.atMs < FRESH_MS) return last.text;
    const text = siteStatus(site).then((status) => metricsText(metricsOf(status, site.version)));
    const mine = { text, atMs: nowMs };
    last = mine;
    text.catch(() => {
      if (last === mine) last = undefined;
    });
    return text;
  };
}
