import { expect, test } from "vitest";
import { installPlan, type PlanFacts } from "../../src/domain/installPlan.js";

const facts: PlanFacts = {
  site: "shop",
  label: "config-20261126-040000",
  takenAt: "2026-11-26T04:00:00.000Z",
  configFile: "/etc/jbackup/jbackup.yaml",
  host: {
    name: "db1",
    system: "Debian GNU/Linux 12 (bookworm)",
    kernel: "Linux 6.1",
    architecture: "x64",
    node: "v26.1.0",
    jbackup: "1.2.3",
    packages: [
      { name: "postgresql-14", version: "14.1-1.pgdg120+1" },
      { name: "postgresql-16", version: "16.4-1.pgdg120+1" },
      { name: "postgresql-common", version: "262.pgdg120+1" },
    ],
  },
  server: {
    version: "16.4",
    major: 16,
    isHere: true,
    dataDirectory: "/var/lib/postgresql/16/main",
    databases: [
      { name: "shop", encoding: "UTF8", collate: "de_DE.UTF-8", ctype: "de_DE.UTF-8", locale: null },
    ],
    extensions: [
      { database: "shop", name: "plpgsql", version: "1.0", package: "postgresql-16" },
      { database: "shop", name: "postgis", version: "3.4.2", package: "postgresql-16-postgis-3" },
      { database: "shop", name: "homemade", version: "0.1", package: null },
    ],
    tablespaces: [{ name: "fast", location: "/mnt/fast", owner: "postgres" }],
    settings: [
      {
        name: "shared_buffers",
        value: "1048576",
        unit: "8kB",
        source: "/etc/postgresql/16/main/postgresql.conf",
      },
      {
        name: "shared_preload_libraries",
        value: "pg_stat_statements, auto_explain",
        unit: null,
        source: null,
      },
    ],
    hasRoles: true,
  },
  owners: ["postgres"],
  roots: ["/etc/postgresql"],
};

test("a bare host learns what to install, in which order", () => {
  const text = installPlan(facts);
  const order = [
    "apt.postgresql.org.sh",
    "apt-get install postgresql-16 postgresql-16-postgis-3 postgresql-common acl",
    "Locales of the databases: de_DE.UTF-8",
    "without which it does not start: pg_stat_statements, auto_explain",
    "Extensions whose package is not known: homemade 0.1",
    "install -d -o postgres -g postgres -m 700 /mnt/fast",
    "shared_buffers = 1048576 (in 8kB)",
    "jbackup 1.2.3",
    "which must exist first: postgres",
    "jbackup restore config-20261126-040000 --in-place --dry-run",
    "--into-dir /var/lib/postgresql/16/main",
    "psql -f postgres/roles.sql postgres",
    "jbackup doctor",
  ];
  let at = 0;
  for (const part of order) {
    const next = text.indexOf(part, at);
    expect(next, part).toBeGreaterThanOrEqual(at);
    at = next;
  }
  expect(text).not.toContain("postgresql-14 ");
  expect(text).toContain("The signing key is not in the kit.");
  expect(text).toContain("    jbackup keys new --out NEW_FOLDER\n");
  expect(text).toContain("- database shop: UTF8, collation de_DE.UTF-8, with postgis 3.4.2, homemade 0.1");
});

test("a server that could not be asked leaves the rest of the plan standing", () => {
  const text = installPlan({ ...facts, server: null });
  expect(text).toContain("PostgreSQL: could not be asked when this was taken");
  expect(text).toContain(
    "jbackup restore latest --mode pitr --to latest --into-dir /var/lib/postgresql/VERSION/main",
  );
});
