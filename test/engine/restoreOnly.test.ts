import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { listKeys } from "../../src/engine/keys.js";
import { recipientsOf, sealingKeys, trustedSigners } from "../../src/engine/siteKeys.js";
import { openTestSite } from "../support/openedSite.js";
import { makeSite, type TestSite } from "../support/site.js";

let made: TestSite | undefined;
afterEach(() => made?.remove());

const DATABASE = "postgresql://nobody@127.0.0.1:1/shop";

/** A site's own keys, and the same site on a host that holds the identity and knows the signer. */
async function restoring() {
  made = await makeSite({ url: DATABASE });
  const first = await openTestSite(made);
  const { signer } = await sealingKeys(first);
  const text = `site: test\ndatabase: {url: "${DATABASE}"}\nkeys: {identity: {file: ${join(made.home, "keys", "identity")}}, signers: [${signer}]}\n`;
  await first.close();
  await made.configure(text);
  return { site: await openTestSite(made), signer };
}

test("a host that only restores names an identity and signers, and is told what it lacks when it is to seal", async () => {
  const { site, signer } = await restoring();
  try {
    expect(await trustedSigners(site)).toEqual([signer]);
    expect(await recipientsOf(site)).toEqual([]);
    expect(await listKeys(site)).toEqual({ recipients: [], signers: [signer], generated: false });
    await expect(sealingKeys(site)).rejects.toMatchObject({
      code: "config_invalid",
      message: "keys.recipients and keys.signing are missing: this host restores, and cannot seal",
      hint: "to back up from here name both in jbackup.yaml: jbackup keys new makes a complete set",
    });
  } finally {
    await site.close();
  }
});
