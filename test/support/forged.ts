import { createHash } from "node:crypto";
import type { TenantFacts } from "../../src/domain/tenantBackup.js";
import { findBackup } from "../../src/engine/findBackup.js";
import { openBackup } from "../../src/engine/openBackup.js";
import { withRun } from "../../src/engine/run.js";
import { sealingKeys } from "../../src/engine/siteKeys.js";
import { earlierBackups } from "../../src/engine/tenants/earlier.js";
import { TenantStore } from "../../src/engine/tenants/storeTenants.js";
import { storagesForWriting } from "../../src/engine/useStorages.js";
import { openTestSite } from "./openedSite.js";
import type { TestSite } from "./site.js";

/** The rows of a backup as COPY text, by table's name. */
export type Texts = Record<string, string>;

/**
 * A backup as somebody makes it who holds the site's signing key: sealed, signed, every digest right, and the rows are what he
 * wants them to be. Answers its id.
 */
export async function forgeBackup(
  of: TestSite,
  backupId: string,
  change: (texts: Texts, facts: TenantFacts) => void,
): Promise<string> {
  const site = await openTestSite(of);
  try {
    const found = await findBackup(site, backupId);
    const opened = await openBackup(site, found);
    const facts = structuredClone(opened.contents.detail.tenant as TenantFacts);
    const texts: Texts = {};
    for (const table of facts.tables) {
      const chunks: Buffer[] = [];
      for await (const chunk of opened.read(opened.entry(table.entry))) chunks.push(chunk);
      texts[table.name] = Buffer.concat(chunks).toString("utf8");
    }
    change(texts, facts);
    const rows = facts.tables.map((table) => {
      const bytes = Buffer.from(texts[table.name] ?? "");
      table.rows = bytes.filter((byte) => byte === 0x0a).length;
      table.bytes = bytes.length;
      table.sha256 = createHash("sha256").update(bytes).digest("hex");
      return bytes;
    });
    return await withRun(site, "backup-tenant", async (run) => {
      const store = new TenantStore(site, {
        run,
        note: "forged",
        keys: await sealingKeys(site),
        storages: await storagesForWriting(site),
        earlier: earlierBackups(site),
        acceptShrunken: true,
        placeOf: () => 0,
        parentId: null,
        server: found.manifest.body.server,
        timeline: found.manifest.body.timeline,
      });
      await store.begin([facts.id]);
      await store.add({ facts, rows });
      await store.finish();
      const [made] = store.backups;
      if (made === undefined) throw new Error(JSON.stringify(store.failed));
      return made.id;
    });
  } finally {
    await site.close();
  }
}
