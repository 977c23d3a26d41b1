import type { DumpFacts, LogicalDump } from "../../postgres/postgres.js";

/** The entry of a logical backup that is the dump itself. */
export const DUMP_NAME = "database.pgdump";

/** What must be known of a dump to bring it back. */
export const dumpFacts = (dump: LogicalDump): DumpFacts => ({
  serverMajor: dump.server.major,
  clientMajor: dump.clientMajor,
  database: dump.database,
  roles: dump.roles,
  tablespaces: dump.tablespaces,
  extensions: dump.extensions,
});
