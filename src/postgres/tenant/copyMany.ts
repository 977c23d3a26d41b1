import type pg from "pg";
import { type Session, translate } from "../connection.js";

/**
 * Several COPY ... TO STDOUT in one round trip. Rows come as PostgreSQL wrote them, in memory that is theirs only while
 * `onRow` runs.
 */
export async function copyMany(
  session: Session,
  statements: string[],
  onRow: (statement: number, row: Buffer) => void,
): Promise<void> {
  if (statements.length === 0) return;
  const sql = statements.map((statement) => `copy (${statement}) to stdout`).join(";\n");
  let at = 0;
  try {
    await new Promise<void>((resolve, reject) => {
      let failure: Error | undefined;
      const query = {
        submit: (connection: { query(text: string): void }) => connection.query(sql),
        handleCopyData: ({ chunk }: { chunk: Buffer }) => {
          if (failure !== undefined) return;
          try {
            onRow(at, chunk);
          } catch (error) {
            failure = error as Error; // the server goes on sending; what it sends is not wanted any more
          }
        },
        handleCommandComplete: () => {
          at++;
        },
        handleReadyForQuery: () => (failure === undefined ? resolve() : reject(failure)),
        handleError: (error: Error) => {
          failure = error;
          reject(error);
        },
        handleRowDescription: () => undefined,
        handleDataRow: () => undefined,
        handleEmptyQuery: () => undefined,
        handlePortalSuspended: () => undefined,
      };
      session.client.query(query as unknown as pg.Submittable);
    });
  } catch (error) {
    throw translate(error, session.address);
  }
}
