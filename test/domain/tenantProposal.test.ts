import { describe, expect, test } from "vitest";
import type { GraphTable, Reference } from "../../src/domain/tenantGraph.js";
import { proposeNamed, proposeTenants, settingsIn } from "../../src/domain/tenantProposal.js";

const table = (name: string, columns: string[], policyColumns: string[] = []): GraphTable => ({
  oid: name,
  schema: "app",
  name,
  shown: `app.${name}`,
  columns: columns.map((column) => ({ name: column })),
  keyColumns: ["id"],
  policyColumns,
});
const reference = (child: string, column: string, parent: string, to = "id"): Reference => ({
  name: `${child}_${column}`,
  child,
  parent,
  pairs: [{ child: column, parent: to, operator: "=", isNullable: false }],
  onDelete: "no action",
});

describe("tenants are found", () => {
  test("by the policies of row-level security, whatever the column is called", () => {
    const tables = [
      table("owners", ["id", "name"], ["id"]),
      table("orders", ["id", "belongs_to"], ["belongs_to"]),
      table("invoices", ["id", "belongs_to"], ["belongs_to"]),
    ];
    const references = [
      reference("orders", "belongs_to", "owners"),
      reference("invoices", "belongs_to", "owners"),
    ];
    const asked = [{ oid: "orders", setting: "app.who" }];
    expect(proposeTenants({ tables, references, asked })).toEqual({
      table: "app.owners",
      oid: "owners",
      idColumn: "id",
      column: "belongs_to",
      nameColumn: "name",
      setting: "app.who",
    });
  });

  test("by a column's name and the foreign keys on it, to whatever key it refers", () => {
    const tables = [table("companies", ["code", "title"]), table("a", ["org_id"]), table("b", ["org_id"])];
    const references = [reference("a", "org_id", "companies", "code")];
    expect(proposeTenants({ tables, references, asked: [] })).toMatchObject({
      table: "app.companies",
      idColumn: "code",
      column: "org_id",
      setting: null,
    });
  });

  test("by names alone, when nothing is declared", () => {
    const tables = [table("tenants", ["id"]), table("a", ["tenant_id"]), table("b", ["tenant_id"])];
    expect(proposeTenants({ tables, references: [], asked: [] })).toMatchObject({ table: "app.tenants" });
  });

  test("in a table that somebody names", () => {
    const tables = [table("brands", ["id"]), table("a", ["brand"])];
    const references = [reference("a", "brand", "brands")];
    expect(proposeNamed("brands", { tables, references, asked: [] })).toMatchObject({ column: "brand" });
    expect(proposeNamed("brand", { tables, references, asked: [] })).toBeNull();
  });
});

test("customers who buy are no tenants", () => {
  const tables = [
    table("customers", ["id"]),
    ...["orders", "carts"].map((name) => table(name, ["id", "customer_id"])),
    ...["items", "prices", "stock"].map((name) => table(name, ["id"])),
  ];
  const references = [
    reference("orders", "customer_id", "customers"),
    reference("carts", "customer_id", "customers"),
  ];
  expect(proposeTenants({ tables, references, asked: [] })).toBeNull();
});

test("the settings are read from a policy's text", () => {
  expect(
    settingsIn(
      "(tenant_id = (current_setting('app.tenant_id'::text, true))::uuid) OR current_setting('app.x') = 'y'",
    ),
  ).toEqual(["app.tenant_id", "app.x"]);
});
