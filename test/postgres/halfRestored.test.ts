import { expect, test } from "vitest";
import { halfRestoredMark, isLeftover } from "../../src/postgres/halfRestored.js";
import { ownMark } from "../../src/sys/processes.js";

const asking = { site: "shop", host: "db1" };
const found = { name: "shop_jbackup_01234567", isBusy: false, isUntouched: false };
const OLD = "jbackup: restore in progress, do not use";
const gone = (by: object): string => `${OLD} ${JSON.stringify({ ...ownMark(), startTicks: "1", ...by })}`;

test.each<[what: string, side: object, swept: boolean]>([
  ["of a run of this site that is gone", { comment: gone(asking) }, true],
  ["the same, though its sessions are not", { comment: gone(asking), isBusy: true }, true],
  ["of a run of this site that lives", { comment: halfRestoredMark(asking) }, false],
  ["of this site from another host", { comment: halfRestoredMark({ ...asking, host: "db2" }) }, true],
  [
    "of this site from another host, in use",
    { comment: halfRestoredMark({ ...asking, host: "db2" }), isBusy: true },
    false,
  ],
  ["of another site, gone or not", { comment: gone({ ...asking, site: "other" }) }, false],
  ["of a site with a longer name", { comment: gone({ ...asking, site: "shop2" }) }, false],
  ["of an older version", { comment: OLD }, true],
  ["of an older version, in use", { comment: OLD, isBusy: true }, false],
  ["without a mark, just made", { comment: null, isUntouched: true }, true],
  ["without a mark, in use", { comment: null, isUntouched: true, isBusy: true }, false],
  ["without a mark, with content", { comment: null }, false],
  ["with a comment of the user's", { comment: "ours", isUntouched: true }, false],
  ["with a mark that was cut off", { comment: gone(asking).slice(0, -5) }, false],
])("a database %s", (_what, side, swept) => {
  expect(isLeftover({ ...found, comment: null, ...side }, asking)).toBe(swept);
});
