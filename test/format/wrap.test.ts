import { describe, expect, it } from "vitest";
import type { WrappedKey } from "../../src/domain/manifest.js";
import { Secret } from "../../src/domain/secret.js";
import {
  commitmentOf,
  generateIdentity,
  type Identity,
  newDataKey,
  unwrapDataKey,
  wrapDataKey,
} from "../../src/format/format.js";
import { encodeKey } from "../../src/format/text.js";
import { BACKUP_ID, errorOf } from "./support.js";

const daily = generateIdentity();
const recovery = generateIdentity();
const stranger = generateIdentity();
const passphrase = new Secret("correct horse");
const dataKey = newDataKey();
const backup = { backupId: BACKUP_ID, commitment: commitmentOf(dataKey) };

const curve = (pair: { identity: Secret }): Identity => ({ kind: "x25519", identity: pair.identity });
const phrase = (text: string): Identity => ({ kind: "passphrase", passphrase: new Secret(text) });
const keys = await wrapDataKey(
  dataKey,
  [
    { kind: "x25519", publicKey: daily.recipient },
    { kind: "x25519", publicKey: recovery.recipient },
    { kind: "passphrase", passphrase },
  ],
  BACKUP_ID,
);
const curveKey = keys[0] as Extract<WrappedKey, { kind: "x25519" }>;
const phraseKey = keys[2] as Extract<WrappedKey, { kind: "scrypt" }>;

describe("a wrapped data key", () => {
  it("opens for each of its recipients", async () => {
    for (const identity of [curve(daily), curve(recovery), phrase("correct horse")])
      expect(await unwrapDataKey(keys, [identity], backup)).toEqual(dataKey);
  });

  it("opens when only one of several identities fits", async () => {
    expect(await unwrapDataKey(keys, [phrase("wrong"), curve(stranger), curve(recovery)], backup)).toEqual(
      dataKey,
    );
  });

  it("opens for a passphrase typed with other code points for the same letters", async () => {
    const wrapped = await wrapDataKey(
      dataKey,
      [{ kind: "passphrase", passphrase: new Secret("caf\u00e9") }],
      BACKUP_ID,
    );
    expect(await unwrapDataKey(wrapped, [phrase("cafe\u0301")], backup)).toEqual(dataKey);
  });

  it("does not open for a stranger, and says which keys would do", async () => {
    const error = await errorOf(unwrapDataKey(keys, [curve(stranger), phrase("wrong")], backup));
    expect(error.message).toBe(`none of the keys at hand opens backup ${BACKUP_ID}`);
    expect(error.hint).toBe(
      `It opens with the identity of ${daily.recipient} or the identity of ${recovery.recipient} or its passphrase: point keys.identity in jbackup.yaml to that, or take it from the recovery kit.`,
    );
    expect(error.exitCode).toBe(12);
  });

  it("does not open without any identity", async () => {
    expect((await errorOf(unwrapDataKey(keys, [], backup))).code).toBe("no_key");
  });

  it("of another backup is refused", async () => {
    const other = { ...backup, backupId: "0193a000-0000-7000-8000-00000000000b" };
    const error = await errorOf(unwrapDataKey(keys, [curve(daily)], other));
    expect(error.code).toBe("manifest_invalid");
    expect(error.message).toBe(
      `the key of backup ${other.backupId} that is sealed for ${daily.recipient} was damaged, or belongs to another backup`,
    );
    expect((await errorOf(unwrapDataKey(keys, [phrase("correct horse")], other))).code).toBe("no_key");
  });

  it("that holds another data key than the signed commitment names is refused", async () => {
    const planted = await wrapDataKey(
      newDataKey(),
      [{ kind: "x25519", publicKey: daily.recipient }],
      BACKUP_ID,
    );
    expect((await errorOf(unwrapDataKey(planted, [curve(daily)], backup))).code).toBe("manifest_invalid");
    expect(await unwrapDataKey([...planted, ...keys], [curve(daily)], backup)).toEqual(dataKey);
  });

  it("with any byte changed is refused", async () => {
    for (const field of ["ephemeral", "sealed"] as const) {
      const bytes = Buffer.from(curveKey[field], "base64");
      for (let at = 0; at < bytes.length; at++) {
        const edited = Buffer.from(bytes);
        edited[at] = (edited[at] as number) ^ 1;
        const key = { ...curveKey, [field]: edited.toString("base64") };
        expect((await errorOf(unwrapDataKey([key], [curve(daily)], backup))).code).toBe("manifest_invalid");
      }
    }
  });

  it("from a point of small order is refused, and none is made for one", async () => {
    const zero = Buffer.alloc(32);
    const key = { ...curveKey, ephemeral: zero.toString("base64") };
    expect((await errorOf(unwrapDataKey([key], [curve(daily)], backup))).code).toBe("manifest_invalid");
    const weak = encodeKey("recipient", zero);
    const error = await errorOf(wrapDataKey(dataKey, [{ kind: "x25519", publicKey: weak }], BACKUP_ID));
    expect(error.message).toBe(`recipient ${weak} is not a usable public key`);
  });

  it("never makes the reader spend gigabytes or minutes", async () => {
    for (const cost of [
      { n: 2 ** 30 },
      { n: 2 ** 18 },
      { p: 1000 },
      { r: 2 ** 20 },
      { n: 65_537 },
      { n: 0 },
      { n: 1 },
    ]) {
      const key = { ...phraseKey, ...cost };
      expect((await errorOf(unwrapDataKey([key], [phrase("correct horse")], backup))).code).toBe(
        "manifest_invalid",
      );
    }
  });
});

describe("wrapping", () => {
  it("is refused for an empty passphrase", async () => {
    for (const text of ["", "  \n"]) {
      const recipient = { kind: "passphrase", passphrase: new Secret(text) } as const;
      expect((await errorOf(wrapDataKey(dataKey, [recipient], BACKUP_ID))).message).toBe(
        "the passphrase is empty",
      );
    }
  });

  it("is refused for no recipient at all: nobody could ever open the backup", async () => {
    expect((await errorOf(wrapDataKey(dataKey, [], BACKUP_ID))).code).toBe("config_invalid");
  });

  it("gives other bytes each time", async () => {
    const [again] = await wrapDataKey(dataKey, [{ kind: "x25519", publicKey: daily.recipient }], BACKUP_ID);
    expect(again).not.toEqual(curveKey);
  });
});
