import { judgeAssertion } from "../../domain/assertion.js";
import type { Site } from "../site.js";
import { failed, type Protocol, passed } from "./protocol.js";
import type { Tested } from "./tested.js";

/** What the operator says must hold: only he knows what his data means. */
export async function checkAssertions(site: Site, tested: Tested, protocol: Protocol): Promise<void> {
  const { assertions, timeoutMs } = site.config.testRestore;
  for (const assertion of assertions)
    await protocol.check(`assertion ${assertion.name}`, assertion.sql.trim(), async () => {
      const { database, sql } = assertion;
      const postgres = database === null ? tested.postgres : await tested.open(database);
      const session = await postgres.connect();
      try {
        const { holds, expected, seen } = judgeAssertion(
          assertion,
          await postgres.ask(session, { sql, timeoutMs }),
        );
        return holds ? passed(expected, seen) : failed(expected, seen);
      } finally {
        await session.close();
      }
    });
}
