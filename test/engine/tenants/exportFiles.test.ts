import { expect, test } from "vitest";
import type { TenantFacts, TenantTableFacts } from "../../../src/domain/tenantBackup.js";
import { csvNames } from "../../../src/engine/tenants/exportFiles.js";

const factsOf = (...entries: string[]): TenantFacts =>
  ({
    tables: entries.map((entry) => ({ entry, class: "direct", rows: 1 }) as TenantTableFacts),
  }) as TenantFacts;

test("tables whose names come to the same get files of their own", () => {
  const facts = factsOf(
    "tables/001-public.__.copy",
    "tables/002-public.__.copy",
    "tables/003-public.__-2.copy",
    "tables/004-public.A.copy",
    "tables/005-public.a.copy",
    "tables/006-public.items.copy",
  );
  expect(csvNames(facts).map(({ name }) => name)).toEqual([
    "public.__.csv",
    "public.__-2.csv",
    "public.__-2-2.csv",
    "public.A.csv",
    "public.a-2.csv",
    "public.items.csv",
  ]);
});
