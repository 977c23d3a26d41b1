import { expect, it } from "vitest";
import { createArchive, openEntry } from "../../src/format/format.js";
import { BACKUP_ID, DATA_KEY, sampleBytes, sourceOf } from "./support.js";

const MIB = 2 ** 20;
const BACKUP = { site: "shop-prod", backupId: BACKUP_ID, tenantId: null };

// Generous bounds: they catch a quadratic copy or a pack that is never let go, not a busy machine.
it("seals and opens in memory that does not grow with the input, at more than 20 MB/s", async () => {
  const text = sampleBytes(MIB);
  const totalMib = 256;
  let last: Buffer = Buffer.alloc(0);
  const archive = createArchive({
    ...BACKUP,
    dataKey: DATA_KEY,
    compression: { codec: "zstd", level: 3 },
    store: async ({ chunks }) => {
      if (last.length === 0) last = Buffer.concat(chunks);
    },
  });
  let most = 0;
  const before = process.memoryUsage().rss;
  const startedMs = performance.now();
  const entry = await archive.addEntry(
    "database.dump",
    (async function* () {
      for (let n = 0; n < totalMib * 16; n++) {
        yield text.subarray((n % 16) * 65_536, ((n % 16) + 1) * 65_536);
        most = Math.max(most, process.memoryUsage.rss());
      }
    })(),
  );
  const { rawBytes } = await archive.finish();
  const seconds = (performance.now() - startedMs) / 1000;
  expect(rawBytes).toBe(totalMib * MIB);
  expect(rawBytes / seconds).toBeGreaterThan(20e6);
  // three packs, their frames on the way, and what the collector has not yet taken
  expect(most - before).toBeLessThan(240 * MIB);

  const [segment] = entry.segments;
  if (segment === undefined) throw new Error("an entry of 256 MiB has a segment");
  const part = { ...entry, bytes: segment.bytes, segments: [segment] };
  let opened = 0;
  const source = async () => sourceOf(last, 65_536);
  const reading = (async () => {
    for await (const chunk of openEntry(part, { ...BACKUP, dataKey: DATA_KEY, source }))
      opened += chunk.length;
  })();
  // a part has another SHA-256 than the whole: all its bytes came out, and the end noticed
  await expect(reading).rejects.toThrow("entry database.dump");
  expect(opened).toBe(segment.bytes);
});
