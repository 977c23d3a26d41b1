import type { CountedTable } from "../../domain/census.js";
import type { TestReport } from "../../domain/testReport.js";
import type { Postgres, Soundness } from "../../postgres/postgres.js";

/** A backup that was brought up on a server of our own, and what is known of how it should be. */
export interface Tested {
  /** The database that is protected; the session of whoever owns everything. */
  postgres: Postgres;
  open(database: string): Promise<Postgres>;
  major: number;
  recovery: NonNullable<TestReport["recovery"]>;
  recorded: {
    how: TestReport["rowsRecorded"];
    tables: CountedTable[];
    /** Null where nobody noted them. */
    databases: string[] | null;
  };
  /** WAL from after the backup was replayed: what changed since is no trouble. */
  isLater: boolean;
  /** Shuts the server down in order and checks its pages on disk. Null where it cannot tell anything. */
  checkPages: (() => Promise<Soundness>) | null;
  /** Ends the server at once. */
  abort(): Promise<void>;
}

/** What was found out before there was a server to look at. */
export interface WalFinding {
  files: number;
  /** Why not all of it can be replayed. */
  gap: string | null;
  until: Date | null;
}
