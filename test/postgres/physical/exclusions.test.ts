import { describe, expect, test } from "vitest";
import { isLeftOut, relationFile, withoutUnlogged } from "../../../src/postgres/physical/exclusions.js";

describe("what a base backup leaves out", () => {
  test.each([
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "tablespace_map",
    "backup_manifest",
    "postgresql.auto.conf.tmp",
    "current_logfiles",
    "global/pg_internal.init",
    "base/5/pg_internal.init.1234",
    "base/pgsql_tmp",
    "pg_tblspc/16400/PG_15_202209061/pgsql_tmp",
    "base/5/t3_16400",
    "base/5/t3_16400_fsm",
    "base/5/t12_16400.1",
  ])("%s", (path) => expect(isLeftOut(path)).toBe(true));
});

describe("what it keeps", () => {
  test.each([
    "PG_VERSION",
    "postgresql.conf",
    "pg_hba.conf",
    "base/5/16400",
    "base/5/t16400",
    "log/backup_label.txt",
  ])("%s", (path) => expect(isLeftOut(path)).toBe(false));
});

test.each([
  ["base/5/16400", { relation: "base/5/16400", fork: "main", segment: 0 }],
  ["base/5/16400.3", { relation: "base/5/16400", fork: "main", segment: 3 }],
  ["base/5/16400_fsm.1", { relation: "base/5/16400", fork: "fsm", segment: 1 }],
  ["base/5/16400_init", { relation: "base/5/16400", fork: "init", segment: 0 }],
  ["global/1262", { relation: "global/1262", fork: "main", segment: 0 }],
  ["pg_tblspc/9/PG_15_1/5/16400_vm", { relation: "pg_tblspc/9/PG_15_1/5/16400", fork: "vm", segment: 0 }],
  ["base/5/pg_filenode.map", null],
  ["base/5/PG_VERSION", null],
  ["global/pg_control", null],
  ["pg_xact/0000", null],
  ["base/5/16400.bak", null],
])("%s is told apart", (path, expected) => expect(relationFile(path)).toEqual(expected));

test("of unlogged relations only the init fork is kept", () => {
  const paths = ["base/5/1", "base/5/1_init", "base/5/1_fsm", "base/5/1.1", "base/5/2", "base/6/1"];
  expect(withoutUnlogged(paths.map((path) => ({ path }))).map(({ path }) => path)).toEqual([
    "base/5/1_init",
    "base/5/2",
    "base/6/1",
  ]);
});
