import { type Session, translate } from "./connection.js";

/** Enough to tell one row from several. */
const MOST_ROWS = 2;

export interface Question {
  sql: string;
  timeoutMs: number;
}

/** The first rows that a query answers. Whatever it is, it cannot write: a cursor takes nothing but queries. */
export async function askReadOnly(
  session: Session,
  { sql, timeoutMs }: Question,
): Promise<(string | null)[][]> {
  // names without a schema are found as the application finds them
  await session.run(
    `reset search_path; begin transaction read only; set local statement_timeout = ${Math.round(timeoutMs)}`,
  );
  try {
    const text = `declare jbackup_question no scroll cursor for ${sql.replace(/;\s*$/, "")}`;
    // one statement at a time: a second one could end the transaction
    const declaring = { text, queryMode: "extended" };
    await session.client.query(declaring);
    const answer = await session.client.query<(string | null)[]>({
      text: `fetch ${MOST_ROWS} from jbackup_question`,
      rowMode: "array",
    });
    return answer.rows;
  } catch (error) {
    throw translate(error, session.address);
  } finally {
    await session.run("rollback").catch(() => undefined); // a lost connection has rolled back already
  }
}
