/** PostgreSQL's page checksum (checksum_impl.h): 32 sums side by side over the page, folded, with the block's number mixed in. */
export const PAGE_BYTES = 8192;

const WORDS = PAGE_BYTES / 4;
const PRIME = 16_777_619;
const BASES = new Int32Array([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]);
const SUMS = BASES.length;

/** The words of a buffer of whole pages; the memory must be aligned, as that of the readers is. */
export const wordsOf = (pages: Uint8Array): Uint32Array =>
  new Uint32Array(pages.buffer, pages.byteOffset, pages.byteLength >>> 2);

/** Four sums at a time fit into registers: several times faster than all 32 in an array. */
export function pageChecksum(words: Uint32Array, page: number, blockNumber: number): number {
  const start = page * WORDS;
  const checksumWord = start + 2;
  const stored = words[checksumWord] as number;
  // the page is summed as if its own checksum, the lower half of this word, were zero
  words[checksumWord] = (stored & 0xffff0000) >>> 0;
  let folded = 0;
  for (let sum = 0; sum < SUMS; sum += 4) {
    let a = BASES[sum] as number;
    let b = BASES[sum + 1] as number;
    let c = BASES[sum + 2] as number;
    let d = BASES[sum + 3] as number;
    let mixed = 0;
    for (let at = start + sum, end = start + WORDS; at < end; at += SUMS) {
      mixed = a ^ (words[at] as number);
      a = Math.imul(mixed, PRIME) ^ (mixed >>> 17);
      mixed = b ^ (words[at + 1] as number);
      b = Math.imul(mixed, PRIME) ^ (mixed >>> 17);
      mixed = c ^ (words[at + 2] as number);
      c = Math.imul(mixed, PRIME) ^ (mixed >>> 17);
      mixed = d ^ (words[at + 3] as number);
      d = Math.imul(mixed, PRIME) ^ (mixed >>> 17);
    }
    for (let round = 0; round < 2; round++) {
      a = Math.imul(a, PRIME) ^ (a >>> 17);
      b = Math.imul(b, PRIME) ^ (b >>> 17);
      c = Math.imul(c, PRIME) ^ (c >>> 17);
      d = Math.imul(d, PRIME) ^ (d >>> 17);
    }
    folded ^= a ^ b ^ c ^ d;
  }
  words[checksumWord] = stored;
  return (((folded ^ blockNumber) >>> 0) % 65_535) + 1;
}

const isNew = (words: Uint32Array, page: number): boolean => {
  // pd_upper is zero on a page that was never initialised
  const upper = (words[page * WORDS + 3] as number) >>> 16;
  return upper === 0;
};

/** The page's LSN: what a backup need not worry about when it is newer than its start, for the WAL repairs it. */
export const pageLsn = (words: Uint32Array, page: number): bigint =>
  (BigInt(words[page * WORDS] as number) << 32n) | BigInt(words[page * WORDS + 1] as number);

/** The numbers, within the buffer, of pages whose checksum is wrong and which no WAL of the backup repairs. */
export function wrongPages(words: Uint32Array, firstBlock: number, startLsn: bigint): number[] {
  const wrong: number[] = [];
  const pages = Math.floor(words.length / WORDS);
  for (let page = 0; page < pages; page++) {
    if (isNew(words, page)) continue;
    const stored = (words[page * WORDS + 2] as number) & 0xffff;
    if (pageChecksum(words, page, firstBlock + page) === stored) continue;
    if (pageLsn(words, page) >= startLsn) continue;
    wrong.push(page);
  }
  return wrong;
}
