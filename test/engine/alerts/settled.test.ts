import { afterEach, beforeEach, expect, test } from "vitest";
import { bodyOf } from "../../../src/domain/alertMessage.js";
import { tellNotice } from "../../../src/engine/alerts/outbox.js";
import { type ActContext, act } from "../../../src/engine/dr/act.js";
import { realGround } from "../../../src/engine/dr/ground.js";
import type { Site } from "../../../src/engine/site.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSite, type TestSite } from "../../support/site.js";

let made: TestSite;
let site: Site;
beforeEach(async () => {
  const channel = "{name: hook, kind: webhook, url: 'http://127.0.0.1:1/hook', atLeast: critical}";
  made = await makeSite({
    url: "postgresql://nobody@127.0.0.1:1/shop",
    more: ["alerts:", "  channels:", `    - ${channel}`],
  });
  site = await openTestSite(made);
});
afterEach(async () => {
  await site.close();
  await made.remove();
});

test("what a runbook tells goes to every channel, and leaves no alert behind", async () => {
  const context = { site, ground: realGround(site), step: "tell", run: "r" } as unknown as ActContext;
  const told = await act({ kind: "notify", text: "storage two was filled again" }, context);
  expect(told).toEqual({ what: "told hook", text: "storage two was filled again" });
  expect(await site.catalog.alerts({})).toEqual([]);
  const [delivery] = await site.catalog.deliveries({});
  expect(delivery).toMatchObject({ channel: "hook", alertId: null, event: "notice", status: "waiting" });
  const body = bodyOf(delivery?.payload as never);
  expect(body).toMatch(/^storage two was filled again\n\nTry: jbackup dr report r\n/);
  expect(body).toMatch(/type {6}NOTICE, info/);
  expect(body).not.toContain("alerts ack");
});

test("where no channel is configured a notice is only noted", async () => {
  const alone = { ...site, config: { ...site.config, alerts: { ...site.config.alerts, channels: [] } } };
  expect(await tellNotice(alone as Site, { message: "m", hint: "h", fingerprint: "f" })).toEqual([]);
});

