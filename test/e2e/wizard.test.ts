import { afterEach, beforeAll, expect, test } from "vitest";
import { useShop } from "../support/shopSite.js";
import { openTerminal, type Terminal } from "../support/terminal.js";

const shop = useShop({ tenants: 3, rows: 20 });
let terminal: Terminal | undefined;
let ids: string[];

const restores = (): Promise<unknown[]> => shop.site.json(["restores"]);
/** Every row of the tenant in a table without a tenant's column. */
const loyaltyOf = (tenant: string): Promise<unknown> =>
  shop.sql(
    "select l::text as row from app.loyalty l join app.customers c on c.id = l.customer_id where c.tenant_id = $1 order by 1",
    [tenant],
  );

beforeAll(async () => {
  await shop.site.json(["backup", "full", "--logical", "--note", "before lunch"]);
  await shop.site.json(["backup", "full"]);
  const tenants = await shop.site.json(["tenants", "list"]);
  ids = tenants.map(({ id }: { id: string }) => id);
});
afterEach(() => {
  terminal?.close();
  terminal = undefined;
});

/** Each prompt of a tenant's restore, with what is pressed to come to the next. */
const WALK: [prompt: RegExp, keys: string[]][] = [
  [/\? Backup \(type to search\)/, ["Enter"]],
  [/\? What do you need\?/, ["Enter"]],
  [/\? Tenant \(type to search/, ["Enter"]],
  [/\? Another one\?/, ["n", "Enter"]],
  [/\? What should happen to rows that differ\?/, ["Down", "Enter"]],
  [/\? Why\? It is recorded/, ["test of the wizard", "Enter"]],
  [/\? Start\?/, ["y", "Enter"]],
];

test("four steps bring a tenant's rows back, and the same command is shown for the next time", async () => {
  const before = await loyaltyOf(ids[0] as string);
  await shop.sql("delete from app.loyalty");
  expect(await loyaltyOf(ids[0] as string)).not.toEqual(before);
  terminal = openTerminal(shop.site, ["restore"]);
  for (const [prompt, keys] of WALK) {
    await terminal.see(prompt);
    terminal.press(...keys);
  }
  const screen = await terminal.see(/ended with 0/);
  expect(screen).toMatch(/jbackup restore \S+ --mode merge --tenant \S+ --reason 'test of the wizard'/);
  expect(screen).toContain("Proved before the commit: no row of anybody else was touched.");
  expect(await loyaltyOf(ids[0] as string)).toEqual(before);
  expect(await loyaltyOf(ids[1] as string)).not.toEqual(before);
  expect(await restores()).toMatchObject([
    { status: "completed", reason: "test of the wizard", mode: "merge" },
  ]);
});

test.each(WALK.map(([prompt], at) => [at, prompt] as const))(
  "Ctrl-C at prompt %i, %s, ends with 130 and leaves nothing behind",
  async (at, prompt) => {
    const made = await restores();
    terminal = openTerminal(shop.site, ["restore"]);
    for (const [earlier, keys] of WALK.slice(0, at)) {
      await terminal.see(earlier);
      terminal.press(...keys);
    }
    await terminal.see(prompt);
    terminal.press("C-c");
    expect(await terminal.see(/ended with \d+/)).toMatch(/nothing was changed[\s\S]*ended with 130/);
    expect(await restores()).toEqual(made);
  },
);

test("the history is searched by what is typed, and what would be overwritten must be typed", async () => {
  terminal = openTerminal(shop.site, ["restore"]);
  await terminal.see(/\? Backup/);
  terminal.press("before lunch");
  expect(await terminal.see(/❯ full-\S+.*"before lunch"/)).not.toContain("physical");
  terminal.press("Enter");
  await terminal.see(/What do you need/);
  terminal.press("Up", "Enter"); // the last way: replace the live database
  await terminal.see(/\? Why/);
  terminal.press("because", "Enter");
  await terminal.see(/Type \S+ to overwrite it:/);
  terminal.press("shp", "Enter");
  expect(await terminal.see(/ended with \d+/)).toMatch(
    /"shp" is not "shop"; nothing was changed[\s\S]*ended with 13/,
  );
});

test("what was shown is what is done: rows that change before the answer are shown again", async () => {
  const id = ids[0] as string;
  const priced = (): Promise<unknown> =>
    shop.sql("select price::text from app.items where tenant_id = $1 order by id", [id]);
  const before = await priced();
  await shop.site.json(["backup", "tenant", "--tenant", id]);
  await shop.sql(`update app.items set price = 77 where tenant_id = '${id}' and sku = 'SKU-1'`);
  terminal = openTerminal(shop.site, ["restore", "--tenant", id, "--reason", "seen"]);
  const first = await terminal.see(/Type \S+ to overwrite it:/);
  const planOf = (screen: string): string | undefined =>
    [...screen.matchAll(/\(plan ([0-9a-f]{32})\)/g)].at(-1)?.[1];
  await shop.sql(`update app.items set price = 78 where tenant_id = '${id}' and sku = 'SKU-2'`);
  terminal.press(id, "Enter");
  const second = await terminal.see(/were changed meanwhile[\s\S]*Type \S+ to overwrite it:\s*$/);
  expect(planOf(first)).toBeDefined();
  expect(planOf(second)).not.toBe(planOf(first));
  expect(await priced()).not.toEqual(before);
  terminal.press(id, "Enter");
  await terminal.see(/ended with 0/);
  expect(await priced()).toEqual(before);
});

test("without a terminal it says which flags to give", async () => {
  const ran = await shop.site.run("restore");
  expect(ran.code).toBe(2);
  expect(ran.stderr).toContain("--reason");
});

test("dr run asks what is seen of a disaster, and shows the command that does the same", async () => {
  terminal = openTerminal(shop.site, ["dr", "run", "--drill"]);
  await terminal.see(/\? What do you see\?/);
  terminal.press("catalog cannot be read");
  await terminal.see(/❯ jbackup list shows nothing/);
  terminal.press("Enter");
  const screen = await terminal.see(/ended with \d+/);
  expect(screen).toContain("jbackup dr run catalog-lost --drill");
  expect(screen).toMatch(/Drill of catalog-lost succeeded[\s\S]*ended with 0/);
});

test("Ctrl-C where dr run asks ends with 130 and begins nothing", async () => {
  const runs = await shop.site.json(["dr", "list"]);
  terminal = openTerminal(shop.site, ["dr", "run"]);
  await terminal.see(/\? What do you see\?/);
  terminal.press("C-c");
  expect(await terminal.see(/ended with \d+/)).toMatch(/nothing was changed[\s\S]*ended with 130/);
  expect(await shop.site.json(["dr", "list"])).toEqual(runs);
});
