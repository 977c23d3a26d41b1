import { isJBackupError } from "../../domain/errors.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import type { Site } from "../site.js";
import { tenantGraph } from "../tenants/graph.js";
import { failed, noted, passed, type Verdict } from "./protocol.js";
import type { Tested } from "./tested.js";

export interface OwnBackup {
  label: string;
  facts: TenantFacts;
  read(entry: string): AsyncIterable<Buffer>;
}

/** What a tenant comes back from. */
export interface Source extends OwnBackup {
  /** Nothing differs from what was recovered, of this tenant and of those that came back before: then nothing may stand against it. */
  isSame: boolean;
}

export const rowsText = (rows: number): string => `${rows.toLocaleString("en")} rows`;

/**
 * Its rows are taken out of the recovered database, and come back by the module that real restores use, which reads them back and
 * compares them before it commits. All others are there, as they would be: tenants may refer to each other's rows.
 */
export async function takenOutAndBack(site: Site, { postgres }: Tested, from: Source): Promise<Verdict> {
  const expected =
    "every row back, each table equal by SHA-256, no reference broken, nobody else's row touched";
  const session = await postgres.connect();
  try {
    const graph = await tenantGraph(site, postgres, session);
    const removed = await postgres.tenants.remove(session, graph, from.facts.id);
    const { blockers, proof } = await postgres.tenants.restore({
      session,
      observe: () => postgres.connect(),
      graph,
      facts: from.facts,
      read: from.read,
      changes: { createMissing: true, updateExisting: true, deleteNew: true },
      tables: [],
      withShared: true,
      triggers: "off",
      cloning: null,
      erasures: null,
      expectPlan: null,
      mayOverwrite: false,
      provesOthers: false,
      isDryRun: false,
      signal: site.signal,
      cancel: async () => session.abort(),
      onWaiting: () => undefined,
      onStaged: () => undefined,
      onWritten: () => undefined,
      onProved: async () => undefined,
      onCommitted: () => undefined,
    });
    if (proof === null) return standsAgainst(from, expected, blockers.join("; "));
    const rows = proof.digests.reduce((sum, one) => sum + one.rows, 0);
    return passed(
      expected,
      `${rowsText(removed)} taken out; ${rowsText(rows)} back in ${proof.digests.length} tables, equal by SHA-256; ${proof.foreignKeys.length} foreign keys hold`,
    );
  } catch (error) {
    if (!isJBackupError(error, "conflict")) throw error;
    return standsAgainst(from, expected, error.message);
  } finally {
    await session.close();
  }
}

/** What others did since its backup was made may stand against it, as it would on the day; where nothing changed, nothing may. */
const standsAgainst = ({ isSame }: Source, expected: string, why: string): Verdict =>
  isSame ? failed(expected, why) : noted(expected, `what changed since its backup stands against it: ${why}`);
