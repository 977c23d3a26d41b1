import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { tarEntries } from "../../../src/postgres/physical/tar.js";

interface Wanted {
  name: string;
  content?: Buffer;
  kind?: string;
  /** As it is written: octal digits, or base 256. */
  sizeField?: Buffer;
}

function header({ name, content = Buffer.alloc(0), kind = "0", sizeField }: Wanted): Buffer {
  const head = Buffer.alloc(512);
  head.write(name, 0);
  head.write("0000600\0", 100);
  const size = sizeField ?? Buffer.from(`${content.length.toString(8).padStart(11, "0")}\0`);
  size.copy(head, 124);
  head.write("        ", 148);
  head.write(kind, 156);
  head.write("ustar\u000000", 257);
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return head;
}

const archive = (...wanted: Wanted[]): Buffer =>
  Buffer.concat(
    wanted.flatMap((one) => {
      const content = one.content ?? Buffer.alloc(0);
      return [header(one), content, Buffer.alloc((512 - (content.length % 512)) % 512)];
    }),
  );

async function* inPieces(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

async function read(bytes: Buffer, pieceBytes = 1000) {
  const found: { name: string; kind: string; mode: number; content: Buffer }[] = [];
  for await (const entry of tarEntries(inPieces(bytes, pieceBytes))) {
    const content = Buffer.alloc(entry.size);
    expect(await entry.readInto(content)).toBe(entry.size);
    found.push({ name: entry.name, kind: entry.kind, mode: entry.mode, content });
  }
  return found;
}

const FILES = [
  { name: "PG_VERSION", content: Buffer.from("15\n") },
  { name: "base/5/16400", content: randomBytes(20_000) },
  { name: "base/5/empty", content: Buffer.alloc(0) },
  { name: "base/5/full", content: randomBytes(1024) },
];

describe("an archive of the server", () => {
  test.each([1, 7, 512, 513, 100_000])("is read from pieces of %i bytes", async (pieceBytes) => {
    const found = await read(archive(...FILES), pieceBytes);
    expect(found.map(({ name, content }) => ({ name, content }))).toEqual(FILES);
    expect(found.every(({ mode }) => mode === 0o600)).toBe(true);
  });

  test("may end with empty records or without", async () => {
    expect(await read(Buffer.concat([archive(...FILES), Buffer.alloc(1024)]))).toHaveLength(FILES.length);
  });

  test("has folders and links besides files", async () => {
    const found = await read(archive({ name: "pg_wal", kind: "5" }, { name: "pg_tblspc/9", kind: "2" }));
    expect(found.map(({ kind }) => kind)).toEqual(["folder", "link"]);
  });

  test("writes sizes beyond eight gigabytes in base 256", async () => {
    const sizeField = Buffer.alloc(12);
    sizeField[0] = 0x80;
    sizeField.writeBigUInt64BE(10_000_000_000n, 4);
    const first = await tarEntries(inPieces(header({ name: "big", sizeField }), 512)).next();
    expect(first.value?.size).toBe(10_000_000_000);
  });

  test("may be read in part: the rest of an entry is passed over", async () => {
    const names: string[] = [];
    for await (const entry of tarEntries(inPieces(archive(...FILES), 999))) {
      names.push(entry.name);
      await entry.readInto(Buffer.alloc(2));
    }
    expect(names).toEqual(FILES.map(({ name }) => name));
  });
});

describe("an archive that is not whole", () => {
  const whole = archive(...FILES);
  test.each([
    ["cut inside a header", whole.subarray(0, 300), "it ends inside a header"],
    ["cut inside a file", whole.subarray(0, 5_000), "it ends inside base/5/16400"],
    ["with a damaged header", Buffer.from(whole).fill(1, 20, 21), "the header of PG_VERSION"],
    ["of another kind", Buffer.alloc(512, 1), "a header is not that of a tar archive"],
    [
      "with something behind its end",
      Buffer.concat([Buffer.alloc(1024), Buffer.alloc(9, 1)]),
      "something follows its end",
    ],
    ["with an unknown kind of entry", archive({ name: "x", kind: "7" }), "x is of an unknown kind"],
  ])("%s is refused", async (_, bytes, why) => {
    await expect(read(bytes)).rejects.toThrow(why);
  });
});
