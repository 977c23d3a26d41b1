import { expect, test } from "vitest";
import { pageChecksum, wordsOf, wrongPages } from "../../../src/postgres/physical/pageChecksum.js";

const LSN = { before: 0n, after: 0xffff_ffff_ffff_ffffn };

const page = (): Buffer => {
  const bytes = Buffer.allocUnsafeSlow(8192);
  for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 7 + Math.floor(at / 256)) % 256;
  return bytes;
};

/** As the server would write it. */
function sealed(bytes: Buffer, block: number): Buffer {
  bytes.writeUInt16LE(pageChecksum(wordsOf(bytes), 0, block), 8);
  return bytes;
}

test("the checksum is the one that PostgreSQL computes", () => {
  // select page_checksum(..., 131077), from the extension pageinspect of PostgreSQL 15
  expect(pageChecksum(wordsOf(page()), 0, 131_077)).toBe(15_928);
});

test("what the page says its checksum is does not enter the checksum, and is left as it was", () => {
  const bytes = page();
  bytes.writeUInt16LE(0xabcd, 8);
  expect(pageChecksum(wordsOf(bytes), 0, 131_077)).toBe(15_928);
  expect(bytes.readUInt16LE(8)).toBe(0xabcd);
});

test("a page that is right passes, at its own place only", () => {
  const bytes = sealed(page(), 7);
  expect(wrongPages(wordsOf(bytes), 7, LSN.after)).toEqual([]);
  expect(wrongPages(wordsOf(bytes), 8, LSN.after)).toEqual([0]);
});

test("a flipped bit is found in whichever page of several it is", () => {
  const bytes = Buffer.allocUnsafeSlow(4 * 8192);
  for (let nth = 0; nth < 4; nth++) sealed(page(), 100 + nth).copy(bytes, nth * 8192);
  bytes[2 * 8192 + 5000] = (bytes[2 * 8192 + 5000] as number) ^ 1;
  expect(wrongPages(wordsOf(bytes), 100, LSN.after)).toEqual([2]);
});

test("a page that is newer than the backup's start is the WAL's to repair; a new page has no checksum yet", () => {
  const bytes = sealed(page(), 0);
  bytes[4000] = (bytes[4000] as number) ^ 1;
  expect(wrongPages(wordsOf(bytes), 0, LSN.before)).toEqual([]);
  expect(wrongPages(wordsOf(Buffer.alloc(8192)), 0, LSN.after)).toEqual([]);
});
