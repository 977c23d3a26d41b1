import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  openRange,
  openRanges,
  openSealed,
  sealedBytesAtMost,
  sealStream,
  verifySealed,
} from "../../src/format/format.js";
import {
  CONTEXT,
  collect,
  DATA_KEY,
  inChunks,
  open,
  partsOf,
  sampleBytes,
  seal,
  sourceOf,
} from "./support.js";

const codecs = fc.constantFrom("zstd", "gzip", "none" as const);

describe("a container", () => {
  it("gives back what went in, for any bytes, chunks, codec and frame size", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 5000 }),
        fc.nat(3000),
        codecs,
        fc.integer({ min: 1, max: 900 }),
        fc.integer({ min: 1, max: 1500 }),
        async (noise, zeros, codec, frameBytes, chunkBytes) => {
          const raw = Buffer.concat([noise, Buffer.alloc(zeros)]);
          const options = {
            dataKey: DATA_KEY,
            context: CONTEXT,
            frameBytes,
            compression: { codec, level: 3 },
          };
          const sealed = await collect(sealStream(inChunks(raw, chunkBytes), options));
          expect((await open(sealed)).equals(raw)).toBe(true);
          expect(sealed.length).toBeLessThanOrEqual(sealedBytesAtMost(raw.length, frameBytes));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("of nothing is whole, and holds nothing", async () => {
    for (const codec of ["zstd", "gzip", "none"] as const) {
      const sealed = await seal(Buffer.alloc(0), { codec });
      expect(await open(sealed)).toHaveLength(0);
      expect(await collect(openRange(sourceOf(sealed), DATA_KEY, CONTEXT, 0, 0))).toHaveLength(0);
    }
  });

  it("has full frames before the last, also where the input ends with a frame", async () => {
    for (const [bytes, frames] of [
      [1, 1],
      [1024, 1],
      [1025, 2],
      [2048, 2],
    ] as const)
      expect(partsOf(await seal(sampleBytes(bytes))).frames).toHaveLength(frames);
  });

  it("keeps a frame as it is when compression would not shrink it", async () => {
    const noise = sampleBytes(4096).subarray(2048);
    const plain = await seal(noise, { codec: "none" });
    expect(await seal(noise, { codec: "zstd" })).toHaveLength(plain.length);
    expect((await seal(Buffer.alloc(2048))).length).toBeLessThan(plain.length - 1500);
  });

  it("copies its input, so that a reader may reuse its memory", async () => {
    const memory = Buffer.alloc(100);
    const input = (async function* () {
      for (let n = 0; n < 50; n++) yield memory.fill(n);
    })();
    const compression = { codec: "zstd", level: 3 } as const;
    const sealed = await collect(
      sealStream(input, { dataKey: DATA_KEY, context: CONTEXT, frameBytes: 130, compression }),
    );
    const expected = Buffer.concat(Array.from({ length: 50 }, (_, n) => Buffer.alloc(100, n)));
    expect((await open(sealed)).equals(expected)).toBe(true);
  });

  it("passes on the error of its input", async () => {
    const broken = new Error("disk on fire");
    const input = (async function* () {
      yield sampleBytes(3000);
      throw broken;
    })();
    const compression = { codec: "zstd", level: 3 } as const;
    const sealing = collect(
      sealStream(input, { dataKey: DATA_KEY, context: CONTEXT, frameBytes: 500, compression }),
    );
    await expect(sealing).rejects.toBe(broken);
  });

  it("shows nothing of its content, and never the same bytes twice", async () => {
    const raw = Buffer.from("account number 12345678 ".repeat(100));
    const sealed = await seal(raw, { codec: "none" });
    expect(sealed.includes("account")).toBe(false);
    expect(sealed.equals(await seal(raw, { codec: "none" }))).toBe(false);
  });

  it("is verified to the number of bytes it holds", async () => {
    expect(await verifySealed(sourceOf(await seal(sampleBytes(5000))), DATA_KEY, CONTEXT)).toBe(5000);
  });

  it("lets go of its source when the reader stops early", async () => {
    const sealed = await seal(sampleBytes(50_000));
    let isClosed = false;
    const source = {
      bytes: sealed.length,
      async *read() {
        try {
          yield* inChunks(sealed, 100);
        } finally {
          isClosed = true;
        }
      },
    };
    for await (const chunk of openSealed(source, DATA_KEY, CONTEXT)) {
      expect(chunk).toHaveLength(1024);
      break;
    }
    expect(isClosed).toBe(true);
  });
});

describe("a range", () => {
  it("is the slice of the whole", async () => {
    const raw = sampleBytes(9000);
    for (const codec of ["zstd", "none"] as const) {
      const sealed = await seal(raw, { codec, frameBytes: 700 });
      await fc.assert(
        fc.asyncProperty(fc.nat(9000), fc.nat(9000), async (a, b) => {
          const [start, end] = [Math.min(a, b), Math.max(a, b)];
          const part = await collect(openRange(sourceOf(sealed), DATA_KEY, CONTEXT, start, end));
          expect(part.equals(raw.subarray(start, end))).toBe(true);
        }),
        { numRuns: 60 },
      );
    }
  });

  it("reads header, tail and the frames that hold it, and nothing else", async () => {
    const sealed = await seal(sampleBytes(400_000), { codec: "none" });
    const source = sourceOf(sealed);
    await collect(openRange(source, DATA_KEY, CONTEXT, 200_000, 200_010));
    expect(source.reads.slice(0, 2)).toEqual([
      [0, 8212],
      [sealed.length - 65_536, sealed.length],
    ]);
    const [start = 0, end = 0] = source.reads[2] ?? [];
    expect(end - start).toBe(1024 + 32);
    expect(source.reads).toHaveLength(3);
  });

  it("and others beside it ask the storage for no byte twice", async () => {
    const raw = sampleBytes(300_000);
    for (const codec of ["zstd", "none"] as const) {
      const sealed = await seal(raw, { codec, frameBytes: 700 });
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(fc.nat(Math.floor(raw.length / 700) - 1), { minLength: 1, maxLength: 12 }),
          async (frames) => {
            const ranges = frames
              .toSorted((a, b) => a - b)
              .map((nth) => ({ start: nth * 700 + 50, end: nth * 700 + 650 }));
            const source = sourceOf(sealed, 65_536);
            for await (const { offset, content } of openRanges(source, DATA_KEY, CONTEXT, ranges))
              expect(content.equals(raw.subarray(offset, offset + content.length))).toBe(true);
            const reads = source.reads.toSorted(([a], [b]) => a - b);
            for (const [nth, [start]] of reads.entries())
              expect(start).toBeGreaterThanOrEqual(reads[nth - 1]?.[1] ?? 0);
          },
        ),
        { numRuns: 40 },
      );
    }
  });

  it("finds an index that is larger than the tail it reads first", async () => {
    const raw = sampleBytes(40_000);
    const sealed = await seal(raw, { codec: "none", frameBytes: 2 });
    const part = await collect(openRange(sourceOf(sealed, 65_536), DATA_KEY, CONTEXT, 19_999, 20_005));
    expect(part.equals(raw.subarray(19_999, 20_005))).toBe(true);
  });
});
