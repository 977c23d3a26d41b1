/** Takes exact lengths out of a stream of chunks of any size. */
export class ByteReader {
  readonly #input: AsyncIterator<Uint8Array>;
  #chunks: Buffer[] = [];
  #held = 0;
  #hasEnded = false;

  constructor(input: AsyncIterable<Uint8Array>) {
    this.#input = input[Symbol.asyncIterator]();
  }

  /** The next bytes: fewer than asked only where the input ends. */
  async take(length: number): Promise<Buffer> {
    await this.#fill(length);
    const taken: Buffer[] = [];
    let missing = Math.min(length, this.#held);
    this.#held -= missing;
    while (missing > 0) {
      const first = this.#chunks[0] as Buffer;
      if (first.length > missing) {
        taken.push(first.subarray(0, missing));
        this.#chunks[0] = first.subarray(missing);
        break;
      }
      taken.push(first);
      this.#chunks.shift();
      missing -= first.length;
    }
    return taken.length === 1 ? (taken[0] as Buffer) : Buffer.concat(taken);
  }

  /** Whatever is at hand, up to `most` bytes and without copying; empty only where the input ends. */
  async takeSome(most: number): Promise<Buffer> {
    await this.#fill(1);
    return this.take(Math.min(most, this.#chunks[0]?.length ?? 0));
  }

  async close(): Promise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    await this.#input.return?.();
  }

  async #fill(length: number): Promise<void> {
    while (this.#held < length && !this.#hasEnded) {
      const next = await this.#input.next();
      if (next.done === true) {
        this.#hasEnded = true;
        return;
      }
      const { buffer, byteOffset, byteLength } = next.value;
      if (byteLength === 0) continue;
      this.#chunks.push(Buffer.from(buffer, byteOffset, byteLength));
      this.#held += byteLength;
    }
  }
}
