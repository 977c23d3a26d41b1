import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

export interface Posted {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface HookServer {
  url: string;
  posted: Posted[];
  /** hangs: takes the request and never answers; a number: answers with that status and quotes the address. */
  mood: "hangs" | number;
  stop(): Promise<void>;
}

export async function startHookServer(): Promise<HookServer> {
  const hook: HookServer = { url: "", posted: [], mood: 200, stop: async () => undefined };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = request.url ?? "";
      hook.posted.push({ path, headers: request.headers, body: Buffer.concat(chunks).toString("utf8") });
      if (hook.mood === "hangs") return;
      response.writeHead(hook.mood).end(`cannot post to ${path}`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  hook.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  hook.stop = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return hook;
}
