import { createHash } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { newDataKey, openRange } from "../../src/format/format.js";
import { sealFrame } from "../../src/format/frame.js";
import { writeIndex, writeTrailer } from "../../src/format/frameIndex.js";
import { newHeader, objectKeys, sealHeader } from "../../src/format/header.js";
import {
  BACKUP_ID,
  CONTEXT,
  collect,
  DATA_KEY,
  errorOf,
  open,
  partsOf,
  sampleBytes,
  seal,
  sourceOf,
} from "./support.js";

const raw = sampleBytes(6000);
const sealed = await seal(raw);
const { opening, frames, index, trailer } = partsOf(sealed);
const frame = (at: number): Buffer => frames[at] as Buffer;
const assemble = (...middle: Buffer[]): Buffer => Buffer.concat([opening, ...middle, index, trailer]);
const where = `data/000001.jbk of backup ${BACKUP_ID}`;
const range = (bytes: Buffer, start: number, end: number): Promise<Buffer> =>
  collect(openRange(sourceOf(bytes), DATA_KEY, CONTEXT, start, end));

/** The header with something changed and its unkeyed checksum made right again, as an attacker would. */
function editedHeader(edit: (header: Buffer) => void): Buffer {
  const bytes = Buffer.from(sealed);
  const header = bytes.subarray(0, bytes.readUInt16BE(10));
  edit(header);
  createHash("sha256").update(header).digest().copy(bytes, header.length, 0, 4);
  return bytes;
}

describe("a damaged object", () => {
  it("is refused for any flipped bit, read whole or in part", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(sealed.length - 1), fc.nat(7), async (at, bit) => {
        const damaged = Buffer.from(sealed);
        damaged[at] = (damaged[at] as number) ^ (1 << bit);
        // in the key check a flip cannot be told from another key
        const checkAt = opening.length - 16;
        const isCheck = at >= checkAt && at < opening.length;
        expect((await errorOf(open(damaged))).code).toBe(isCheck ? "container_foreign" : "object_corrupt");
        const error = await range(damaged, 0, raw.length).then(
          () => undefined,
          (thrown) => thrown.code,
        );
        expect(["object_corrupt", "container_foreign", "object_truncated"]).toContain(error);
      }),
      { numRuns: 400 },
    );
  });

  it("says which frame is damaged and how to replace it", async () => {
    const damaged = Buffer.from(sealed);
    const at = opening.length + frame(0).length + 40;
    damaged[at] = (damaged[at] as number) ^ 1;
    const error = await errorOf(open(damaged));
    expect(error.message).toBe(`${where} is damaged at frame 1`);
    expect(error.hint).toBe(
      `Run \`jbackup verify ${BACKUP_ID} --heal\` to replace this copy from a good one.`,
    );
    expect(error.exitCode).toBe(4);
    expect(error.details).toEqual({ backupId: BACKUP_ID, object: "data/000001.jbk" });
  });

  it("does not hinder reading a range that lies elsewhere", async () => {
    const damaged = Buffer.from(sealed);
    damaged[opening.length + 40] = (damaged[opening.length + 40] as number) ^ 1;
    expect((await range(damaged, 2048, 3000)).equals(raw.subarray(2048, 3000))).toBe(true);
    expect((await errorOf(range(damaged, 1000, 3000))).message).toBe(`${where} is damaged at frame 0`);
  });

  it("that is no container at all is called so", async () => {
    expect((await errorOf(open(Buffer.from("<html>404 not found</html>")))).message).toBe(
      `${where} is not a jbackup container: its first bytes are wrong`,
    );
  });

  it("with bytes behind its end is refused", async () => {
    for (const more of [Buffer.from("x"), sealed]) {
      const error = await errorOf(open(Buffer.concat([sealed, more])));
      expect(error.message).toBe(`${where} has a damaged end, or bytes behind it`);
    }
  });
});

describe("a truncated object", () => {
  it("is called truncated wherever it was cut", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(sealed.length - 1), async (length) => {
        const cut = sealed.subarray(0, length);
        expect((await errorOf(open(cut))).code).toBe("object_truncated");
        expect((await errorOf(range(cut, 0, 10))).code).toBe("object_truncated");
      }),
      { numRuns: 200 },
    );
  });

  it("is called truncated when whole frames are missing before a sound end", async () => {
    const error = await errorOf(open(assemble(...frames.slice(0, 3))));
    expect(error.code).toBe("object_truncated");
    expect(error.message).toBe(`${where} lost frames at its end: frame 3 is missing`);
  });

  it("does not open beyond its end", async () => {
    const error = await errorOf(range(sealed, 5000, 6001));
    expect(error.message).toBe(`${where} holds 6000 bytes; bytes 5000 to 6001 were asked for`);
  });
});

describe("moved frames", () => {
  it("are called reordered", async () => {
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(frames, { minLength: frames.length }), async (shuffled) => {
        fc.pre(shuffled.some((piece, at) => piece !== frames[at]));
        expect((await errorOf(open(assemble(...shuffled)))).code).toBe("frame_reordered");
      }),
    );
  });

  it("are called reordered in a range too", async () => {
    const same = await seal(raw, { codec: "none" });
    const parts = partsOf(same);
    const [a, b, ...rest] = parts.frames as [Buffer, Buffer, ...Buffer[]];
    const swapped = Buffer.concat([parts.opening, b, a, ...rest, parts.index, parts.trailer]);
    expect((await errorOf(range(swapped, 0, 10))).message).toBe(
      `${where} has frame 1 where frame 0 belongs: frames were moved or taken out`,
    );
  });

  it("are called duplicated when one comes again, the last one included", async () => {
    for (let at = 0; at < frames.length; at++)
      for (let again = at + 1; again <= frames.length; again++) {
        const error = await errorOf(
          open(assemble(...frames.slice(0, again), frame(at), ...frames.slice(again))),
        );
        expect(error.code).toBe("frame_duplicated");
        expect(error.message).toBe(`${where} has frame ${at} twice`);
      }
  });

  it("taken out of the middle are noticed", async () => {
    expect((await errorOf(open(assemble(frame(0), ...frames.slice(2))))).code).toBe("frame_reordered");
  });

  it("of another object of the same backup do not open", async () => {
    const other = partsOf(await seal(raw));
    const grafted = assemble(frame(0), other.frames[1] as Buffer, ...frames.slice(2));
    expect((await errorOf(open(grafted))).code).toBe("object_corrupt");
  });
});

describe("an object in the wrong place", () => {
  const elsewhere: [string, Partial<typeof CONTEXT>, string][] = [
    ["site", { site: "shop-test" }, "was sealed for site shop-prod"],
    ["backup", { backupId: "0193a000-0000-7000-8000-00000000000b" }, `was sealed for backup ${BACKUP_ID}`],
    ["tenant", { tenantId: "globex" }, "was sealed for tenant acme"],
    ["whole site", { tenantId: null }, "was sealed for tenant acme"],
    ["role", { role: "contents" }, "was sealed for role data"],
    ["name", { name: "data/000002.jbk" }, "was sealed for object data/000001.jbk"],
  ];
  it.each(elsewhere)("is refused under another %s", async (_what, other, text) => {
    const error = await errorOf(open(sealed, { ...CONTEXT, ...other }));
    expect(error.code).toBe("container_foreign");
    expect(error.message).toMatch(new RegExp(`belongs elsewhere: it ${text}$`));
    expect(error.exitCode).toBe(4);
  });

  it("is refused with another data key", async () => {
    const error = await errorOf(open(sealed, CONTEXT, newDataKey()));
    expect(error.code).toBe("container_foreign");
    expect(error.message).toBe(`${where} is sealed with another key than this backup's`);
  });

  it("does not fit by editing its header", async () => {
    const renamed = editedHeader((header) => header.write("globex", header.length - 4 - 2));
    expect((await errorOf(open(renamed))).code).toMatch(/container_foreign|object_corrupt/);
    const tenantAt = sealed.indexOf("acme");
    const moved = editedHeader((header) => header.write("evil", tenantAt));
    expect((await errorOf(open(moved, { ...CONTEXT, tenantId: "evil" }))).code).toBe("container_foreign");
  });

  it("does not open with another codec, frame size or salt in its header", async () => {
    for (const edit of [
      (header: Buffer) => header.writeUInt8(1, 9),
      (header: Buffer) => header.writeUInt32BE(2048, 12),
      (header: Buffer) => header.fill(1, 16, 48),
    ])
      expect((await errorOf(open(editedHeader(edit)))).code).toBe("container_foreign");
  });
});

describe("a container of a later version", () => {
  it("is not called damaged", async () => {
    const error = await errorOf(open(editedHeader((header) => header.writeUInt8(2, 8))));
    expect(error.message).toBe(`${where} has container version 2; this jbackup reads 1`);
    expect(error.exitCode).toBe(16);
  });
});

describe("a writer that holds the key but lies", () => {
  /** One authentic frame with a body that does not match its head. */
  function crafted(body: Buffer, rawBytes: number, isCompressed = true): Buffer {
    const header = newHeader("zstd", 1024, CONTEXT);
    const keys = objectKeys(DATA_KEY, header);
    const start = sealHeader(header, keys);
    const head = {
      kind: "last",
      counter: 0,
      rawBytes,
      sealedBytes: body.length,
      isCompressed,
    } as const;
    const sealedFrame = Buffer.concat(sealFrame(keys.key, head, body));
    const list = writeIndex(rawBytes, [body.length]);
    const indexHead = {
      kind: "index",
      counter: 1,
      rawBytes: 12,
      sealedBytes: 12,
      isCompressed: false,
    } as const;
    const end = Buffer.concat(sealFrame(keys.key, indexHead, list));
    return Buffer.concat([start, sealedFrame, end, writeTrailer(start.length + sealedFrame.length)]);
  }

  it("is refused for a bomb, a short frame, a cut stream and no stream at all", async () => {
    const zeros = zstdCompressSync(Buffer.alloc(1000));
    expect(await open(crafted(zeros, 1000))).toEqual(Buffer.alloc(1000));
    const bomb = zstdCompressSync(Buffer.alloc(50_000_000)).subarray(0, 1000);
    const noise = zstdCompressSync(sampleBytes(900));
    for (const [body, rawBytes] of [
      [bomb, 1024],
      [zeros, 999],
      [zeros, 1001],
      [noise.subarray(0, noise.length - 9), 900],
      [Buffer.from("not zstd"), 900],
    ] as const) {
      const error = await errorOf(open(crafted(body, rawBytes)));
      expect(error.message).toBe(
        `${where} has an authentic frame 0 that does not expand to the length it states`,
      );
    }
  });

  it("is refused for a frame larger than the frames of its object, or larger than its content", async () => {
    for (const [body, rawBytes, isCompressed] of [
      [Buffer.alloc(2000), 2000, false],
      [zstdCompressSync(Buffer.alloc(2000)), 2000, true],
      [Buffer.alloc(100), 99, false],
      [Buffer.alloc(100), 100, true],
    ] as const) {
      const error = await errorOf(open(crafted(body, rawBytes, isCompressed)));
      expect(error.message).toBe(`${where} is damaged at frame 0`);
    }
  });
});
