import { createServer, request as send } from "node:http";
import type { AddressInfo } from "node:net";

/** An S3 server behind a rule that keeps what is stored: nothing is overwritten, nothing deleted. */
export async function startLockedBucket(
  target: string,
): Promise<{ endpoint: string; stop(): Promise<void> }> {
  const { hostname, port } = new URL(target);
  const taken = new Set<string>();
  const server = createServer((incoming, answer) => {
    const { method = "GET", url = "/", headers } = incoming;
    const path = url.replace(/\?.*/, "");
    if (method === "DELETE" || (method === "PUT" && taken.has(path))) {
      incoming.resume();
      answer
        .writeHead(403, { "content-type": "application/xml" })
        .end("<Error><Code>AccessDenied</Code><Message>the object is locked</Message></Error>");
      return;
    }
    if (method === "PUT") taken.add(path);
    // the headers as they are: the signature is over them
    const outgoing = send({ hostname, port, method, path: url, headers, setHost: false }, (theirs) => {
      answer.writeHead(theirs.statusCode ?? 502, theirs.headers);
      theirs.pipe(answer);
    });
    outgoing.on("error", () => answer.destroy());
    incoming.pipe(outgoing);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
