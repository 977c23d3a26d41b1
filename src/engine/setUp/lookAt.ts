import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { Secret } from "../../domain/secret.js";
import type { TenantDraft } from "../../domain/siteDraft.js";
import { classifyTables, isOwned, undecided } from "../../domain/tenantGraph.js";
import { proposeNamed, proposeTenants, type TenantProposal } from "../../domain/tenantProposal.js";
import type { Postgres, ServerLook, Session } from "../../postgres/postgres.js";
import type { SetUpParts } from "./parts.js";

/** How the tables of a database stand to its tenants, once somebody said who those are. */
export interface Classification {
  owned: number;
  shared: number;
  /** What nobody can decide but its owner. */
  undecided: { table: string; why: string }[];
}

export interface LookedAt {
  server: ServerLook;
  /** Every table, as people write it. */
  tables: string[];
  /** What the schema tells of tenants. */
  proposed: TenantDraft | null;
  /** The tenants in a table that somebody names. */
  propose(table: string): Promise<TenantDraft>;
  classify(draft: TenantDraft): Classification;
  close(): Promise<void>;
}

/** Connects, and reads what a configuration has to say about this server and this database. */
export async function lookAt(parts: SetUpParts, url: Secret): Promise<LookedAt> {
  const { environment, signal, clock, postgres } = parts;
  const password = postgres.passwordIn(url);
  if (password !== null) parts.onSecret(password);
  const opened = postgres.openPostgres({
    url,
    user: environment.systemUser,
    binDirectory: "auto",
    dataDirectory: "auto",
    environment: { path: environment.path, home: environment.home },
    signal,
    nowMs: () => clock.now().getTime(),
  });
  const session = await opened.connect();
  try {
    return await readAll(parts, opened, session);
  } catch (error) {
    await session.close();
    throw error;
  }
}

async function readAll({ postgres }: SetUpParts, opened: Postgres, session: Session): Promise<LookedAt> {
  const server = await postgres.lookAtServer(session);
  const schema = await opened.tenants.readSchema(session);
  const { tables, references } = schema;
  const asked = await postgres.policySettings(session);
  const draftOf = async (found: TenantProposal): Promise<TenantDraft> => {
    const { oid, ...rest } = found;
    const root = tables.find((table) => table.oid === oid);
    const activeWhere =
      root === undefined ? null : await visible(session, () => postgres.activeCondition(session, root));
    return { ...rest, activeWhere, shared: [], exclude: [], transient: [] };
  };
  const found = proposeTenants({ tables, references, asked });
  return {
    server,
    tables: tables.map(({ shown }) => shown),
    proposed: found === null ? null : await draftOf(found),
    propose: async (table) => {
      const named = proposeNamed(table, { tables, references, asked });
      if (named !== null) return draftOf(named);
      throw new JBackupError("usage", `database "${server.database}" has no table ${table}`, {
        hint: "name the table of tenants with its schema, such as app.tenants; none when there are none",
      });
    },
    classify: (draft) => {
      const graph = classifyTables(tables, references, { ...draft, owners: {} });
      if (graph === null) throw new JBackupError("bug", `${draft.table} was there a moment ago`);
      return {
        owned: graph.tables.filter(isOwned).length,
        shared: graph.tables.filter((table) => table.class === "shared").length,
        undecided: undecided(graph).map(({ table, why }) => ({ table: table.shown, why })),
      };
    },
    close: () => session.close(),
  };
}

/** With row-level security off, a role that may not see every row is told so, instead of being shown a few. */
async function visible<Found>(session: Session, read: () => Promise<Found>): Promise<Found | null> {
  try {
    await session.run("set row_security = off");
    return await read();
  } catch (error) {
    if (isJBackupError(error, "postgres_denied", "postgres_failed")) return null;
    throw error;
  }
}
