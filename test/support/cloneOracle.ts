import { OF_TENANT, type Query, type Rows } from "./tenantShop.js";

/** Which columns hold keys, and of which table: written by hand, as an oracle must be. */
const KEYS: Record<string, Record<string, string>> = {
  users: { id: "users" },
  branches: { id: "branches", manager: "users" },
  terminals: { id: "terminals", branch_id: "branches" },
  categories: { id: "categories", parent: "categories" },
  items: { id: "items", category: "categories" },
  customers: { id: "customers", referred_by: "customers" },
  loyalty: { id: "loyalty", customer_id: "customers" },
  sales: { id: "sales", customer_id: "customers", branch_id: "branches" },
  sale_items: { sale_id: "sales", item_id: "items" },
  repairs: { id: "repairs" },
  repair_photos: { id: "repair_photos", repair_id: "repairs" },
  suppliers: { id: "suppliers" },
  purchase_orders: { id: "purchase_orders", supplier_id: "suppliers" },
  purchase_items: { id: "purchase_items", order_id: "purchase_orders" },
  notifications: { id: "notifications" },
};

/** Every row of a tenant with each key as the place that it takes among the tenant's own, and the tenant's id as T: what a clone and its original have in common. A key of somebody else would be place 0. */
export async function rowsByPlace(query: Query, id: string): Promise<Rows> {
  const found: Rows = {};
  for (const [table, condition] of Object.entries(OF_TENANT)) {
    const columns = await query(
      "select column_name as name from information_schema.columns where table_schema = 'app' and table_name = $1 order by ordinal_position",
      [table],
    );
    const values = columns.map(({ name = "" }) => {
      const parent = KEYS[table]?.[name];
      if (parent !== undefined) return placeOf(parent, `t.${name}`);
      return `replace(t."${name}"::text, $1::text, 'T')`;
    });
    const rows = await query(
      `select row(${values.join(", ")})::text as row from app.${table} t where ${condition.replaceAll("$1", "$1::uuid")}`,
      [id],
    );
    found[table] = rows.map(({ row }) => row ?? "").sort();
  }
  return found;
}

const placeOf = (parent: string, value: string): string => {
  const own = (OF_TENANT[parent] ?? "").replace(/\bt\./g, "o.").replaceAll("$1", "$1::uuid");
  return `case when ${value} is not null then
    (select case when bool_or(o.id = ${value}) then count(*) filter (where o.id <= ${value}) else 0 end from app.${parent} o where ${own}) end`;
};
