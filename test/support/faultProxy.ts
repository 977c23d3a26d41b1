import { createConnection, createServer, type Server, type Socket } from "node:net";

/** A TCP proxy in front of any server, which misbehaves when told to. It understands just enough HTTP to answer by itself. */
export interface FaultProxy {
  endpoint: string;
  /** What happens from now on to new connections and to bytes on open ones. */
  behave(fault: Fault): void;
  /** Answers the next requests (those that match, if told which) by itself. */
  answerNext(count: number, answer: Answer): void;
  forgetAnswers(): void;
  /** Requests seen, first lines only. */
  requests: string[];
  /** At which byte each GET began: 0, or the start of its range. */
  readsFrom: number[];
  stop(): Promise<void>;
}

export type Fault =
  | { kind: "pass" }
  /** Closes connections as soon as they are made. */
  | { kind: "refuse" }
  /** Takes everything and never says a word. */
  | { kind: "blackHole" }
  /** Lets so many bytes through in the direction, then holds the connection open and silent. */
  | { kind: "stall"; direction: Direction; afterBytes: number; times?: number }
  /** Lets so many bytes through in the direction, then breaks the connection. */
  | { kind: "cut"; direction: Direction; afterBytes: number; times?: number }
  | { kind: "delay"; ms: number }
  /** Flips one bit of the byte at this distance from the start of the connection. */
  | { kind: "flip"; direction: Direction; atByte: number; times?: number }
  /** Replaces a text in what passes, by one of the same length, to rewrite answers on the way. */
  | { kind: "rewrite"; direction: Direction; from: string; to: string };

export type Direction = "up" | "down";

export type Answer = { status: number; headers?: Record<string, string>; body?: string; when?: RegExp };

export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const proxy = new ScriptedProxy(new URL(target));
  await proxy.listen();
  return proxy;
}

class ScriptedProxy implements FaultProxy {
  readonly requests: string[] = [];
  readonly readsFrom: number[] = [];
  endpoint = "";
  readonly #target: URL;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #fault: Fault = { kind: "pass" };
  #answers: Answer[] = [];
  #timesLeft = Number.POSITIVE_INFINITY;

  constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    this.endpoint = `http://127.0.0.1:${address.port}`;
  }

  /** Kept connections are closed, so that the fault begins with the next request. */
  behave(fault: Fault): void {
    this.#fault = fault;
    this.#timesLeft = ("times" in fault ? fault.times : undefined) ?? Number.POSITIVE_INFINITY;
    this.#closeAll();
  }

  answerNext(count: number, answer: Answer): void {
    for (let left = count; left > 0; left--) this.#answers.push(answer);
    this.#closeAll();
  }

  forgetAnswers(): void {
    this.#answers = [];
  }

  async stop(): Promise<void> {
    this.#closeAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #closeAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #track(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket)).on("error", () => socket.destroy());
    return socket;
  }

  #accept(client: Socket): void {
    this.#track(client);
    const fault = this.#fault;
    if (fault.kind === "refuse") return void client.destroy();
    if (fault.kind === "blackHole") return void client.resume();
    client.once("data", (data) => {
      const first = data as Buffer;
      client.pause();
      this.#note(requestLineOf(first) ?? "", first);
      const answer = this.#answerTo(first);
      if (answer !== undefined) return void this.#answerBy(client, first, answer);
      if (fault.kind === "delay") setTimeout(() => this.#connect(client, first, fault), fault.ms);
      else this.#connect(client, first, fault);
    });
  }

  #note(line: string, chunk: Buffer): void {
    this.requests.push(line);
    if (line.startsWith("GET"))
      this.readsFrom.push(Number(chunk.toString("latin1").match(/^range: bytes=(\d+)-/im)?.[1] ?? 0));
  }

  #answerTo(chunk: Buffer): Answer | undefined {
    const line = requestLineOf(chunk) ?? "";
    const at = this.#answers.findIndex(({ when }) => when === undefined || when.test(line));
    return at < 0 ? undefined : this.#answers.splice(at, 1)[0];
  }

  /** Reads the whole request first: a client that is still sending may never look at an early answer. */
  async #answerBy(client: Socket, first: Buffer, answer: Answer): Promise<void> {
    let received = first;
    const isWhole = (): boolean => {
      const headEnd = received.indexOf("\r\n\r\n");
      if (headEnd < 0) return false;
      const head = received.subarray(0, headEnd).toString("latin1");
      if (/^expect: 100-continue/im.test(head)) return true;
      return received.length - headEnd - 4 >= Number(head.match(/^content-length: (\d+)/im)?.[1] ?? 0);
    };
    client.resume();
    while (!isWhole() && !client.destroyed) {
      const chunk = await new Promise<Buffer>((resolve) => {
        client.once("data", resolve);
        client.once("close", () => resolve(Buffer.alloc(0)));
      });
      received = Buffer.concat([received, chunk]);
    }
    const body = answer.body ?? "";
    const headers = {
      "content-length": String(Buffer.byteLength(body)),
      connection: "close",
      ...answer.headers,
    };
    const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    client.end(`HTTP/1.1 ${answer.status} Scripted\r\n${head.join("")}\r\n${body}`);
  }

  #connect(client: Socket, first: Buffer, fault: Fault): void {
    const server = this.#track(createConnection(Number(this.#target.port), this.#target.hostname));
    const up = this.#gate(client, server, fault, "up");
    const down = this.#gate(server, client, fault, "down");
    up(first);
    const forward = (chunk: Buffer): void => {
      const line = requestLineOf(chunk);
      if (line !== undefined) this.#note(line, chunk);
      const answer = line === undefined ? undefined : this.#answerTo(chunk);
      if (answer === undefined) {
        up(chunk);
        return;
      }
      client.off("data", forward);
      server.removeAllListeners("close").destroy();
      void this.#answerBy(client, chunk, answer);
    };
    client.on("data", forward);
    server.on("data", down);
    client.on("end", () => server.end()).on("close", () => server.destroy());
    server.on("end", () => client.end()).on("close", () => client.destroy());
    client.resume();
  }

  #gate(from: Socket, to: Socket, fault: Fault, direction: Direction): (chunk: Buffer) => void {
    let passed = 0;
    let isSilent = false;
    const pass = (chunk: Buffer): void => {
      passed += chunk.length;
      if (chunk.length > 0 && !to.write(chunk)) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    };
    return (chunk) => {
      if (isSilent) return;
      if (!("direction" in fault) || fault.direction !== direction || this.#timesLeft <= 0)
        return pass(chunk);
      if (fault.kind === "rewrite")
        return pass(Buffer.from(chunk.toString("latin1").replaceAll(fault.from, fault.to), "latin1"));
      const at = fault.kind === "flip" ? fault.atByte : fault.afterBytes;
      if (passed + chunk.length <= at) return pass(chunk);
      this.#timesLeft--;
      if (fault.kind === "flip") {
        const flipped = Buffer.from(chunk);
        if (at >= passed) flipped[at - passed] = (flipped[at - passed] ?? 0) ^ 1;
        return pass(flipped);
      }
      pass(chunk.subarray(0, Math.max(0, at - passed)));
      isSilent = true;
      if (fault.kind === "cut") setTimeout(() => [from, to].map((socket) => socket.destroy()), 20);
    };
  }
}

const requestLineOf = (chunk: Buffer): string | undefined =>
  chunk.toString("latin1", 0, 2000).match(/^[A-Z]+ \S+ HTTP\/1\.1(?=\r\n)/)?.[0];
