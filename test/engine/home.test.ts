import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { claimHome, requireOwnHome } from "../../src/engine/home.js";
import type { Site } from "../../src/engine/site.js";

let home: string;

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), "jbackup-home-"));
  home = join(folder, "home");
  return () => rmSync(folder, { recursive: true });
});

const warnings: string[] = [];
const siteCalled = (site: string): Site =>
  ({ config: { home, site }, report: { warn: (text: string) => warnings.push(text) } }) as unknown as Site;
const mayUse = (site: string): Promise<void> => requireOwnHome({ home, site });
const REFUSED = { code: "target_refused", exitCode: 14 };

test("a new home is anybody's until the first job, and then that site's alone", async () => {
  await mayUse("shop");
  await mayUse("wiki");
  await claimHome(siteCalled("shop"));
  expect(readFileSync(join(home, "site"), "utf8")).toBe("shop\n");
  await mayUse("shop");
  await claimHome(siteCalled("shop"));
  await expect(mayUse("wiki")).rejects.toMatchObject({
    ...REFUSED,
    message: `${home} is the home of site shop, not of wiki`,
    hint: expect.stringContaining(`JBACKUP_HOME=${home}-wiki`),
  });
  await expect(claimHome(siteCalled("wiki"))).rejects.toMatchObject(REFUSED);
});

test("of two first jobs at the same moment one is refused", async () => {
  const results = await Promise.allSettled(["shop", "wiki"].map((site) => claimHome(siteCalled(site))));
  expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
});

test.each(["shop.eu.config", "shop.eu.chain.json"])(
  "a home of an earlier version shows by %s whose it is",
  async (trace) => {
    mkdirSync(home);
    writeFileSync(join(home, trace), "{}");
    await expect(mayUse("wiki")).rejects.toMatchObject({
      message: `${home} is the home of site shop.eu, not of wiki`,
    });
    await claimHome(siteCalled("shop.eu"));
    await mayUse("shop.eu");
  },
);
