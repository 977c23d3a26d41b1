import { randomBytes } from "node:crypto";
import { constants, zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { expandFrame, FrameCompressor } from "../../src/format/compress.js";

const FRAME = 256 * 1024;

/** Words in an order that only a thorough search makes something of. */
const text = (words: number): Buffer => {
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state;
  };
  const list = Array.from({ length: words }, () => next().toString(36));
  let out = "";
  while (out.length < FRAME) out += `${list[next() % words]} `;
  return Buffer.from(out.slice(0, FRAME));
};

const sizeAt = (raw: Buffer, level: number): number =>
  zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: level } }).length;

test("the quick level is used while it is about as small, and the strong one where that pays", async () => {
  const plain = Buffer.from(randomBytes(FRAME / 2).toString("hex"));
  const wordy = text(3000);
  expect(sizeAt(wordy, 1)).toBeGreaterThan(sizeAt(wordy, 9) * 1.02);
  for (const [raw, level] of [
    [plain, 1],
    [wordy, 9],
  ] as const) {
    const compressor = new FrameCompressor({ codec: "zstd", level: 9 });
    const sizes = [];
    for (let frame = 0; frame < 12; frame++) sizes.push((await compressor.compress(raw)).bytes.length);
    expect(Math.abs((sizes.at(-1) as number) / sizeAt(raw, level) - 1)).toBeLessThan(0.005);
  }
});

test.each(["zstd", "gzip", "none"] as const)("%s frames expand to what they were", async (codec) => {
  const compressor = new FrameCompressor({ codec, level: 3 });
  for (const raw of [text(50), randomBytes(FRAME), Buffer.alloc(0), Buffer.alloc(FRAME)]) {
    const packed = await compressor.compress(raw);
    expect(packed.bytes.length).toBeLessThanOrEqual(raw.length);
    const opened = packed.isCompressed
      ? await expandFrame(packed.bytes, codec, packed.rawBytes)
      : packed.bytes;
    expect(opened?.equals(raw)).toBe(true);
  }
});
