import type { Migration } from "kysely/migration";
import { up as firstTables } from "./0001_first_tables.js";
import { up as pinsDeliveriesRequests } from "./0002_pins_deliveries_requests.js";
import { up as usage } from "./0003_usage.js";
import { up as signedRequests } from "./0004_signed_requests.js";

/**
 * Every migration by name; run in the order of their names, forward only. A released one is never edited:
 * what it did wrong is mended by the next.
 */
export const migrations: Record<string, Migration> = {
  "0001_first_tables": { up: firstTables },
  "0002_pins_deliveries_requests": { up: pinsDeliveriesRequests },
  "0003_usage": { up: usage },
  "0004_signed_requests": { up: signedRequests },
};
