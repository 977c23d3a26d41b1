import { randomBytes } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { zstdCompress } from "../../src/format/zstdPool.js";

/** About half of it shrinks. */
const content = (bytes: number, seed: number): Buffer => {
  const text = Buffer.alloc(bytes, `line ${seed} `);
  randomBytes(Math.ceil(bytes / 2)).copy(text, Math.floor(bytes / 4));
  return text;
};

test("every call is one whole frame, however many run at one time and however often contexts are used again", async () => {
  const inputs = Array.from({ length: 60 }, (_, nth) => content(1 + nth * 17_477, nth));
  for (let round = 0; round < 3; round++) {
    const packed = await Promise.all(
      inputs.flatMap((input) => [zstdCompress(input, 1), zstdCompress(input, 3)]),
    );
    for (const [nth, frame] of packed.entries())
      expect(zstdDecompressSync(frame).equals(inputs[nth >> 1] as Buffer)).toBe(true);
  }
});
