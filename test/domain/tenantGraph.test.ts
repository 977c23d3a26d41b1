import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { folderOf, parseManifestKey, pathPart } from "../../src/domain/reference.js";
import {
  classifyTables,
  type GraphTable,
  isOwned,
  type Reference,
  type TenantRules,
  undecided,
} from "../../src/domain/tenantGraph.js";

const table = (name: string, columns: string[], more: Partial<GraphTable> = {}): GraphTable => ({
  oid: name,
  schema: "app",
  name,
  shown: `app.${name}`,
  columns: columns.map((column) => ({ name: column })),
  keyColumns: ["id"],
  policyColumns: [],
  ...more,
});
const reference = (
  child: string,
  column: string,
  parent: string,
  more: Partial<Reference> = {},
): Reference => ({
  name: `${child}_${column}_fkey`,
  child,
  parent,
  pairs: [{ child: column, parent: "id", operator: "=", isNullable: false }],
  onDelete: "no action",
  ...more,
});
const nullable = (child: string, column: string, parent: string): Reference =>
  reference(child, column, parent, {
    pairs: [{ child: column, parent: "id", operator: "=", isNullable: true }],
  });
const RULES: TenantRules = {
  table: "app.tenants",
  idColumn: "id",
  column: "tenant_id",
  exclude: [],
  shared: [],
  transient: [],
  owners: {},
};
const ROOT = table("tenants", ["id", "name"]);
const classesOf = (
  tables: GraphTable[],
  references: Reference[],
  rules: Partial<TenantRules> = {},
): Record<string, string> =>
  Object.fromEntries(
    (classifyTables([ROOT, ...tables], references, { ...RULES, ...rules })?.tables ?? []).map((one) => [
      one.table.name,
      one.class,
    ]),
  );

describe("a table is", () => {
  test("direct by the column's name, by its policies, or by the only foreign key to the tenants", () => {
    expect(
      classesOf(
        [
          table("a", ["id", "tenant_id"]),
          table("b", ["id", "owner"], { policyColumns: ["owner"] }),
          table("c", ["id", "company"]),
        ],
        [reference("c", "company", "tenants")],
      ),
    ).toEqual({ tenants: "root", a: "direct", b: "direct", c: "direct" });
  });

  test("a child through any number of tables, but never by what may be null", () => {
    expect(
      classesOf(
        [table("a", ["tenant_id"]), table("b", ["a_id"]), table("c", ["b_id"]), table("d", ["a_id"])],
        [reference("b", "a_id", "a"), reference("c", "b_id", "b"), nullable("d", "a_id", "a")],
      ),
    ).toEqual({ tenants: "root", a: "direct", b: "child", c: "child", d: "ambiguous" });
  });

  test("shared when tenants' rows refer to it, also through another shared one, and unknown when nothing does", () => {
    expect(
      classesOf(
        [
          table("a", ["tenant_id", "country"]),
          table("countries", ["id", "currency"]),
          table("currencies", ["id"]),
          table("misc", ["id"]),
        ],
        [reference("a", "country", "countries"), reference("countries", "currency", "currencies")],
      ),
    ).toEqual({ tenants: "root", a: "direct", countries: "shared", currencies: "shared", misc: "unknown" });
  });

  test("what the configuration decides, whatever it looks like", () => {
    expect(
      classesOf(
        [
          table("log", ["tenant_id"]),
          table("jobs", ["tenant_id"]),
          table("prices", ["id"]),
          table("visits", ["customer"]),
          table("customers", ["tenant_id"]),
        ],
        [nullable("visits", "customer", "customers")],
        {
          exclude: ["app.log"],
          transient: ["jobs"],
          shared: ["app.prices"],
          owners: { "app.visits": "visits_customer_fkey" },
        },
      ),
    ).toEqual({
      tenants: "root",
      log: "ignored",
      jobs: "transient",
      prices: "shared",
      visits: "child",
      customers: "direct",
    });
  });

  test("a migration tool's own book, which is nobody's", () => {
    expect(classesOf([table("schema_migrations", ["version"])], [])).toEqual({
      tenants: "root",
      schema_migrations: "ignored",
    });
  });
});

test("of several ways to an owner the key's is taken, then the one that deletes along, and the others must agree", () => {
  const graph = classifyTables(
    [
      ROOT,
      table("sales", ["tenant_id"]),
      table("items", ["tenant_id"]),
      table("lines", ["sale", "item"], { keyColumns: ["sale", "line"] }),
    ],
    [reference("lines", "item", "items", { onDelete: "cascade" }), reference("lines", "sale", "sales")],
    RULES,
  );
  const lines = graph?.tables.find((one) => one.table.name === "lines");
  expect(lines?.owner).toMatchObject({ kind: "reference", parent: "sales" });
  expect(lines?.alternatives.map(({ name }) => name)).toEqual(["lines_item_fkey"]);
});

test("names that no table has are told, with what was meant", () => {
  const graph = classifyTables([ROOT, table("audit_log", [])], [], { ...RULES, exclude: ["app.audit_lgo"] });
  expect(graph?.unmatched).toEqual([{ name: "app.audit_lgo", meant: "app.audit_log" }]);
  expect(classifyTables([table("a", [])], [], RULES)).toBeNull();
});

const arbitraryGraph = fc
  .record({
    tables: fc.array(fc.record({ isDirect: fc.boolean(), hasPolicy: fc.boolean() }), {
      minLength: 1,
      maxLength: 8,
    }),
    references: fc.array(fc.record({ child: fc.nat(7), parent: fc.nat(8), isNullable: fc.boolean() }), {
      maxLength: 14,
    }),
  })
  .map(({ tables, references }) => {
    const made = tables.map((one, nth) =>
      table(`t${nth}`, one.isDirect ? ["id", "tenant_id"] : ["id"], {
        policyColumns: one.hasPolicy ? ["id"] : [],
      }),
    );
    const keys = references
      .filter(({ child, parent }) => child < made.length && parent <= made.length)
      .map(({ child, parent, isNullable }, nth) => {
        const to = parent === made.length ? "tenants" : `t${parent}`;
        return { ...(isNullable ? nullable : reference)(`t${child}`, `c${nth}`, to), name: `k${nth}` };
      });
    return { tables: [ROOT, ...made], keys };
  });

test("whatever the graph, every table has one class, and every owned one a way that is never null and ends at a tenant", () => {
  fc.assert(
    fc.property(arbitraryGraph, ({ tables, keys }) => {
      const graph = classifyTables(tables, keys, RULES);
      if (graph === null) throw new Error("the root is there");
      expect(graph.tables.length).toBe(tables.length);
      for (const one of graph.tables) {
        expect(isOwned(one)).toBe(one.owner !== null);
        let at = one;
        for (let steps = 0; at.owner?.kind === "reference"; steps++) {
          expect(steps).toBeLessThan(tables.length);
          const { reference: key, parent } = at.owner;
          expect(key.pairs.some(({ isNullable }) => isNullable)).toBe(false);
          expect(key.child).toBe(at.table.oid);
          const next = graph.tables.find((other) => other.table.oid === parent);
          if (next === undefined) throw new Error("an owner that is no table");
          at = next;
        }
        if (isOwned(one)) expect(["root", "direct"]).toContain(at.class);
      }
      expect(undecided(graph).every((one) => one.owner === null)).toBe(true);
    }),
  );
});

test("any tenant's id is one part of a path, and comes back from it", () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" }).filter((id) => id.isWellFormed()),
      (id) => {
        expect(pathPart(id)).toMatch(/^[A-Za-z0-9._-]+$/);
        expect([".", ".."]).not.toContain(pathPart(id));
        const uuid = "01a1fccb-2cc5-7b4c-a7b4-6fd8f082754c";
        const folder = folderOf("tenant", uuid, new Date("2026-11-20T00:00:00Z"), id);
        expect(parseManifestKey(`${folder}/manifest.json`)).toEqual({
          folder,
          id: uuid,
          kind: "tenant",
          tenantId: id,
        });
      },
    ),
  );
});
