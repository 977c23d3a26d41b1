import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseWalFile, pieceName, segmentName } from "../../../src/domain/wal.js";
import { Shipper } from "../../../src/engine/wal/shipper.js";
import type { WalWriter } from "../../../src/engine/wal/walWriter.js";

const SEGMENT = 65_536;
const FIRST = 7n;
const START = FIRST * BigInt(SEGMENT);

const named = (nth: number): string => segmentName({ timeline: 3, number: FIRST + BigInt(nth) }, SEGMENT);

interface Put {
  name: string;
  stored: Promise<void>;
  done(): void;
  fail(error: Error): void;
}

/** Takes everything, and has it stored when the test says so. */
class Slow implements WalWriter {
  readonly missed: WalWriter["missed"] = new Map();
  readonly storedBytes = 0;
  readonly open: Put[] = [];
  readonly stored = new Map<string, Buffer>();
  /** What a listing would show now. */
  readonly left = new Set<string>();
  readonly removed: string[] = [];

  put(name: string, content: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => {
      this.open.splice(this.open.indexOf(put), 1);
    };
    const done = (): void => {
      // as late as a storage may read it: a buffer that was used again by now shows
      this.stored.set(name, Buffer.from(content));
      this.left.add(name);
      leave();
      resolve();
    };
    const fail = (error: Error): void => {
      leave();
      reject(error);
    };
    const put: Put = { name, stored: promise, done, fail };
    this.open.push(put);
    return promise;
  }

  /** One that is on its way goes when it has arrived. */
  async remove(names: string[]): Promise<void> {
    this.removed.push(...names);
    await Promise.allSettled(
      this.open.filter(({ name }) => names.includes(name)).map(({ stored }) => stored),
    );
    for (const name of names) this.left.delete(name);
  }

  async leftOf(): Promise<{ pieces: string[]; isWhole: boolean }> {
    return { pieces: [], isWhole: false };
  }

  async rejoin(): Promise<void> {}

  async settled(): Promise<void> {}

  named(name: string): Put {
    const found = this.open.find((put) => put.name === name);
    if (found === undefined)
      throw new Error(`${name} is not on its way, but ${this.open.map((put) => put.name)}`);
    return found;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function begun(left: string[] = []) {
  const writer = new Slow();
  const durable: bigint[] = [];
  const shipped: string[] = [];
  const shipper = new Shipper({
    writer,
    segmentBytes: SEGMENT,
    onDurable: (lsn) => durable.push(lsn),
    onShipped: (kind) => shipped.push(kind),
  });
  shipper.begin(3, START, left);
  return { writer, shipper, durable, shipped };
}

/** WAL of which every byte tells where it is. */
const wal = (bytes: number): Buffer => {
  const content = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at++) content[at] = (at * 31 + (at >> 8) * 7) & 0xff;
  return content;
};

describe("segments", () => {
  test("are cut wherever the messages end, and shipped as soon as they are whole", async () => {
    const { writer, shipper } = begun();
    const content = wal(SEGMENT * 2 + 500);
    shipper.take(START, content.subarray(0, 100));
    expect(writer.open).toEqual([]);
    shipper.take(START + 100n, content.subarray(100));
    expect(writer.open.map(({ name }) => name)).toEqual([named(0), named(1)]);
    expect(shipper.received).toBe(START + BigInt(content.length));
    writer.named(named(0)).done();
    writer.named(named(1)).done();
    await turn();
    expect(writer.stored.get(named(1))?.equals(content.subarray(SEGMENT, SEGMENT * 2))).toBe(true);
  });

  test("that are stored out of order are durable only when nothing before them is missing", async () => {
    const { writer, shipper, durable } = begun();
    shipper.take(START, wal(SEGMENT * 3));
    writer.named(named(2)).done();
    writer.named(named(1)).done();
    await turn();
    expect([shipper.durable, durable]).toEqual([START, []]);
    writer.named(named(0)).done();
    await turn();
    expect(durable).toEqual([START + BigInt(SEGMENT * 3)]);
  });

  test("that do not follow on are refused", () => {
    const { shipper } = begun();
    shipper.take(START, wal(10));
    expect(() => shipper.take(START + 11n, wal(10))).toThrow("came where");
    expect(() => shipper.take(START + 5n, wal(10))).toThrow("came where");
  });

  test("which fail stop everything that waits, and what came before stays durable", async () => {
    const { writer, shipper, durable } = begun();
    shipper.take(START, wal(SEGMENT * 3));
    writer.named(named(0)).done();
    writer.named(named(1)).fail(new Error("the disk is full"));
    writer.named(named(2)).done();
    await expect(shipper.settle()).rejects.toThrow("the disk is full");
    await expect(shipper.room()).rejects.toThrow("the disk is full");
    expect([shipper.durable, durable]).toEqual([START + BigInt(SEGMENT), [START + BigInt(SEGMENT)]]);
  });
});

describe("pieces", () => {
  test("begin where the one before ended, and one is on its way at a time", async () => {
    const { writer, shipper, durable } = begun();
    shipper.shipPiece();
    expect(writer.open).toEqual([]);
    shipper.take(START, wal(1000));
    shipper.shipPiece();
    shipper.take(START + 1000n, wal(500));
    shipper.shipPiece();
    expect(writer.open.map(({ name }) => name)).toEqual([pieceName(named(0), 0, 1000)]);
    writer.named(pieceName(named(0), 0, 1000)).done();
    await turn();
    expect(durable).toEqual([START + 1000n]);
    shipper.shipPiece();
    writer.named(pieceName(named(0), 1000, 1500)).done();
    await turn();
    expect(shipper.durable).toBe(START + 1500n);
    shipper.shipPiece();
    expect(writer.open).toEqual([]);
  });

  test("go when their segment is stored whole, never before", async () => {
    const { writer, shipper } = begun();
    shipper.take(START, wal(1000));
    shipper.shipPiece();
    writer.named(pieceName(named(0), 0, 1000)).done();
    await turn();
    shipper.take(START + 1000n, wal(SEGMENT - 1000));
    expect(writer.removed).toEqual([]);
    writer.named(named(0)).done();
    await turn();
    expect(writer.removed).toEqual([pieceName(named(0), 0, 1000)]);
  });

  test("which an earlier run left go with those of this one", async () => {
    const old = pieceName(named(0), 0, 300);
    const { writer, shipper } = begun([old]);
    shipper.take(START, wal(SEGMENT));
    expect(writer.removed).toEqual([]);
    writer.named(named(0)).done();
    await turn();
    expect(writer.removed).toEqual([old]);
  });

  test("stay when their segment could not be stored", async () => {
    const { writer, shipper } = begun();
    shipper.take(START, wal(1000));
    shipper.shipPiece();
    writer.named(pieceName(named(0), 0, 1000)).done();
    shipper.take(START + 1000n, wal(SEGMENT - 1000));
    writer.named(named(0)).fail(new Error("gone"));
    await turn();
    expect(writer.removed).toEqual([]);
    expect(shipper.durable).toBe(START + 1000n);
  });

  test("that are stored later than their segment are removed all the same", async () => {
    const { writer, shipper } = begun();
    const piece = pieceName(named(0), 0, 1000);
    shipper.take(START, wal(1000));
    shipper.shipPiece();
    shipper.take(START + 1000n, wal(SEGMENT - 1000));
    writer.named(named(0)).done();
    await turn();
    writer.named(piece).done();
    await turn();
    await shipper.settle();
    expect([...writer.left]).toEqual([named(0)]);
  });
});

test("whatever the order: durable never passes what is stored, buffers are never mixed up, and in the end all is there", async () => {
  const steps = fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.record({ take: fc.integer({ min: 1, max: SEGMENT }) }) },
      { weight: 3, arbitrary: fc.constant({ piece: true as const }) },
      { weight: 5, arbitrary: fc.record({ store: fc.nat(20) }) },
    ),
    { minLength: 5, maxLength: 40 },
  );
  await fc.assert(
    fc.asyncProperty(steps, async (done) => {
      const { writer, shipper, durable } = begun();
      const content = wal(SEGMENT * 41);
      let taken = 0;
      const coversUpTo = (): number => {
        const ranges = [...writer.stored.keys()].map((name): [number, number] => {
          const file = parseWalFile(name);
          const segment = file?.kind === "piece" ? file.segment : name;
          const base = Number(BigInt(`0x${segment.slice(16)}`) - FIRST) * SEGMENT;
          return file?.kind === "piece" ? [base + file.from, base + file.to] : [base, base + SEGMENT];
        });
        let end = 0;
        for (const [from, to] of ranges.sort(([a, b], [c, d]) => a - c || b - d))
          if (from <= end) end = Math.max(end, to);
        return end;
      };
      for (const step of done) {
        if ("take" in step) {
          shipper.take(START + BigInt(taken), content.subarray(taken, taken + step.take));
          taken += step.take;
        } else if ("piece" in step) shipper.shipPiece();
        else if (writer.open.length > 0) writer.open[step.store % writer.open.length]?.done();
        await turn();
        expect(shipper.durable).toBe(START + BigInt(coversUpTo()));
      }
      for (let round = 0; round < 3; round++) {
        while (writer.open.length > 0) writer.open[0]?.done();
        await turn();
        shipper.shipPiece();
      }
      await shipper.settle();
      expect(shipper.durable).toBe(START + BigInt(taken));
      expect(durable).toEqual(durable.toSorted((a, b) => (a < b ? -1 : 1)));
      for (const name of writer.left) {
        const file = parseWalFile(name);
        expect(file?.kind === "piece" && writer.left.has(file.segment), name).toBe(false);
      }
      for (const [name, stored] of writer.stored) {
        const file = parseWalFile(name);
        const base = Number(BigInt(`0x${name.slice(16, 24)}`) - FIRST) * SEGMENT;
        const [from, to] = file?.kind === "piece" ? [file.from, file.to] : [0, SEGMENT];
        expect(stored.equals(content.subarray(base + from, base + to)), name).toBe(true);
      }
    }),
    { numRuns: 40 },
  );
});
