import { createConnection, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

export interface Throttle {
  endpoint: string;
  stop(): Promise<void>;
}

/** A TCP proxy that takes no more than so many bytes a second from its clients, all connections together. */
export async function startThrottle(target: string, bytesPerSecond: number): Promise<Throttle> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let freeAt = performance.now();
  const server = createServer((client) => {
    const upstream = createConnection(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket)).on("error", () => socket.destroy());
    }
    client.on("data", async (chunk) => {
      client.pause();
      freeAt = Math.max(freeAt, performance.now()) + (chunk.length / bytesPerSecond) * 1000;
      await delay(Math.max(0, freeAt - performance.now()));
      if (upstream.writable) upstream.write(chunk);
      client.resume();
    });
    client.on("end", () => upstream.end()).on("close", () => upstream.destroy());
    upstream.pipe(client);
    upstream.on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
