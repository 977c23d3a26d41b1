import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ManifestBody, WrappedKey } from "../../src/domain/manifest.js";
import { canonicalJson } from "../../src/format/canonical.js";
import {
  commitmentOf,
  digestOf,
  type Expectation,
  generateIdentity,
  generateSigning,
  readManifest,
  rewrapManifest,
  signDetached,
  signManifest,
  unwrapDataKey,
  verifyDetached,
  wrapDataKey,
} from "../../src/format/format.js";
import { BACKUP_ID, DATA_KEY, thrownBy } from "./support.js";

const site = generateSigning();
const attacker = generateSigning();
const daily = generateIdentity();
const keys = await wrapDataKey(DATA_KEY, [{ kind: "x25519", publicKey: daily.recipient }], BACKUP_ID);
const body: ManifestBody = {
  format: 1,
  site: "shop-prod",
  backupId: BACKUP_ID,
  label: "full-20261120-020000",
  kind: "full",
  method: "physical",
  tenantId: null,
  sequence: 7,
  previousDigest: "a".repeat(64),
  createdAt: "2026-11-20T02:00:00.000Z",
  finishedAt: "2026-11-20T02:10:00.000Z",
  createdBy: "ops@db1",
  jobId: "0193a000-0000-7000-8000-0000000000ff",
  tool: { name: "jbackup", version: "0.1.0" },
  server: { version: "18.4", versionNum: 180004, systemId: "7300000000000000001" },
  timeline: 1,
  startLsn: "0/2000028",
  endLsn: "0/2000100",
  parentId: null,
  keyCommitment: commitmentOf(DATA_KEY),
  codec: "zstd",
  rawBytes: 1000,
  storedBytes: 500,
  objects: [
    { name: "data/000001.jbk", bytes: 400, sha256: "b".repeat(64) },
    { name: "contents.jbk", bytes: 100, sha256: "c".repeat(64) },
  ],
  note: "before the migration",
  warnings: [],
  metadata: { pages: 12 },
};
const signed = signManifest(body, keys, site.signing);
const read = (bytes: Uint8Array, expected: Expectation = {}) =>
  readManifest(bytes, { signers: [site.signer], expect: expected });
const errorOf = (bytes: Uint8Array, expected?: Expectation) => thrownBy(() => read(bytes, expected));

/** The file with something changed in its JSON. */
function edited(edit: (manifest: { body: ManifestBody; keys: unknown; signature: unknown }) => void): Buffer {
  const manifest = JSON.parse(signed.toString("utf8"));
  edit(manifest);
  return Buffer.from(JSON.stringify(manifest));
}

describe("a signed manifest", () => {
  it("is read back as it was written", () => {
    const manifest = read(signed, { site: "shop-prod", backupId: BACKUP_ID, tenantId: null, minSequence: 7 });
    expect(manifest.body).toEqual(body);
    expect(manifest.keys).toEqual(keys);
    expect(manifest.signature.signer).toBe(site.signer);
    expect(manifest.digest).toBe(digestOf(body));
  });

  it("may be laid out anew: the order of its fields means nothing", () => {
    const { body: same, keys: k, signature } = JSON.parse(signed.toString("utf8"));
    const reversed = Object.fromEntries(Object.entries(same).reverse());
    expect(read(Buffer.from(JSON.stringify({ signature, keys: k, body: reversed }, null, 4))).digest).toBe(
      digestOf(body),
    );
  });

  it("may hold fields that a later jbackup added, and keeps them signed", async () => {
    const later = { ...body, weather: "rain" } as ManifestBody;
    const bytes = signManifest(later, keys, site.signing);
    expect(read(bytes).body).toEqual(later);
    const changed = Buffer.from(bytes.toString("utf8").replace("rain", "snow"));
    expect((await errorOf(changed)).code).toBe("manifest_forged");
  });

  it("is not written when it is not well formed", async () => {
    const wrong = { ...body, objects: [{ name: "../x", bytes: 1, sha256: "b".repeat(64) }] };
    expect((await thrownBy(() => signManifest(wrong, keys, site.signing))).code).toBe("bug");
  });

  it("names its digest from the body alone", () => {
    expect(digestOf({ ...body })).toBe(digestOf(body));
    expect(digestOf({ ...body, sequence: 8 })).not.toBe(digestOf(body));
  });
});

describe("a manifest that was tampered with", () => {
  it("anywhere in its body is forged or unreadable", async () => {
    const start = signed.indexOf('"body"') + 8;
    const end = signed.indexOf('"keys"');
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: start, max: end - 1 }), fc.nat(255), async (at, byte) => {
        const changed = Buffer.from(signed);
        changed[at] = byte;
        const isSame = canonicalJson(tryParse(changed)?.body ?? null) === canonicalJson(body);
        fc.pre(!isSame); // white space between tokens
        expect((await errorOf(changed)).code).toMatch(/^manifest_(forged|invalid)$/);
      }),
      { numRuns: 300 },
    );
  });

  const tryParse = (bytes: Buffer): { body?: unknown } | undefined => {
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      return undefined;
    }
  };

  it("says so, and what to do", async () => {
    const bytes = edited((manifest) => {
      manifest.body.objects = [{ name: "data/000001.jbk", bytes: 400, sha256: "d".repeat(64) }];
    });
    const error = await errorOf(bytes, { backupId: BACKUP_ID });
    expect(error.message).toBe(`the manifest of backup ${BACKUP_ID} was changed after it was signed`);
    expect(error.hint).toBe(
      "Take it as tampering and restore from a copy in another storage; if the signing key was replaced on purpose, add its public half to keys.signers in jbackup.yaml.",
    );
    expect(error.code).toBe("manifest_forged");
    expect(error.exitCode).toBe(4);
  });

  it("is forged when somebody else signed it, also under the site's name", async () => {
    const planted = signManifest(body, keys, attacker.signing);
    const error = await errorOf(planted);
    expect(error.message).toBe(`the manifest is signed by ${attacker.signer}, who is not trusted here`);
    const renamed = Buffer.from(planted.toString("utf8").replace(attacker.signer, site.signer));
    expect((await errorOf(renamed)).code).toBe("manifest_forged");
    expect(readManifest(planted, { signers: [site.signer, attacker.signer] }).body).toEqual(body);
  });

  it("is forged when nobody is trusted", async () => {
    expect((await thrownBy(() => readManifest(signed, { signers: [] }))).code).toBe("manifest_forged");
  });

  it("is unsigned without a signature", async () => {
    for (const value of [undefined, null]) {
      const bytes = edited((manifest) => {
        manifest.signature = value;
      });
      const error = await errorOf(bytes);
      expect(error.code).toBe("manifest_unsigned");
      expect(error.message).toBe("the manifest is not signed");
    }
  });

  it("is forged when its signature is over another kind of record", async () => {
    const bytes = edited((manifest) => {
      manifest.signature = signDetached(Buffer.from(canonicalJson(body)), site.signing, "restore report");
    });
    expect((await errorOf(bytes)).code).toBe("manifest_forged");
  });

  it("is invalid when it is cut, empty, no JSON, or not text", async () => {
    for (const bytes of [
      signed.subarray(0, -40),
      Buffer.alloc(0),
      Buffer.from("[]"),
      Buffer.from([0xff, 0xfe]),
    ])
      expect((await errorOf(bytes)).code).toBe("manifest_invalid");
  });

  it("is invalid when it is absurdly large or deep", async () => {
    expect((await errorOf(Buffer.alloc(64 * 2 ** 20 + 1))).message).toBe(
      "the manifest is larger than any manifest",
    );
    const deep = `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`;
    const signature = JSON.stringify(JSON.parse(signed.toString("utf8")).signature);
    const bytes = Buffer.from(`{"body":${deep},"keys":[],"signature":${signature}}`);
    expect((await errorOf(bytes)).code).toBe("manifest_invalid");
  });
});

describe("a rightly signed manifest with a malformed body", () => {
  const cases: [string, Partial<Record<keyof ManifestBody, unknown>>][] = [
    ["objects", { objects: [{ name: "/etc/passwd", bytes: 1, sha256: "b".repeat(64) }] }],
    ["objects", { objects: [{ name: "a/../../b", bytes: 1, sha256: "b".repeat(64) }] }],
    ["objects", { objects: [{ name: "a b", bytes: 1, sha256: "b".repeat(64) }] }],
    ["objects", { objects: [{ name: "a", bytes: -1, sha256: "b".repeat(64) }] }],
    ["objects", { objects: [{ name: "a", bytes: 1.5, sha256: "b".repeat(64) }] }],
    ["objects", { objects: [{ name: "a", bytes: 1, sha256: "B".repeat(64) }] }],
    ["objects", { objects: [body.objects[0], body.objects[0]] }],
    ["objects", { objects: {} }],
    ["backupId", { backupId: "../x" }],
    ["kind", { kind: "partial" }],
    ["createdAt", { createdAt: "yesterday" }],
    ["sequence", { sequence: -1 }],
    ["keyCommitment", { keyCommitment: null }],
    ["startLsn", { startLsn: "0-1" }],
    ["metadata", { metadata: [] }],
    ["tool", { tool: { name: "other", version: "1" } }],
  ];
  it.each(cases)("names %s", async (field, change) => {
    const wrong = { ...body, ...change };
    const signature = signDetached(Buffer.from(canonicalJson(wrong)), site.signing, "manifest");
    const error = await errorOf(Buffer.from(JSON.stringify({ body: wrong, keys, signature })));
    expect(error.code).toBe("manifest_invalid");
    expect(error.message).toBe(`the manifest is not well formed: its ${field} is missing or not well formed`);
  });

  it("of a later format is not called damaged", async () => {
    const later = { ...body, format: 2 };
    const signature = signDetached(Buffer.from(canonicalJson(later)), site.signing, "manifest");
    const error = await errorOf(Buffer.from(JSON.stringify({ body: later, keys, signature })));
    expect(error.message).toBe("the manifest has format 2; this jbackup reads 1");
    expect(error.exitCode).toBe(16);
  });

  it.each([
    ["none", []],
    ["no list", "x"],
    ["a key of an unknown kind", [{ ...keys[0], kind: "rsa" }]],
    [
      "nine passphrases",
      Array(9).fill({
        kind: "scrypt",
        salt: `${"A".repeat(22)}==`,
        n: 2,
        r: 8,
        p: 1,
        sealed: "A".repeat(64),
      }),
    ],
    ["a mistyped recipient", [{ ...keys[0], recipient: "jbk1pubaaaa" }]],
    ["a short key", [{ ...keys[0], sealed: "AAAA" }]],
    [
      "a key that costs gigabytes",
      [{ ...keys[0], kind: "scrypt", salt: `${"A".repeat(22)}==`, n: 2 ** 30, r: 8, p: 1 }],
    ],
  ])("is invalid with these keys: %s", async (_what, wrong) => {
    const bytes = edited((manifest) => {
      manifest.keys = wrong;
    });
    expect((await errorOf(bytes)).code).toBe("manifest_invalid");
  });
});

describe("a rightly signed manifest in the wrong place", () => {
  it("is foreign: another site, backup or tenant", async () => {
    const cases: [Expectation, string][] = [
      [{ site: "shop-test" }, "the manifest belongs to site shop-prod, not shop-test"],
      [{ backupId: "b2" }, `the manifest of backup b2 belongs to backup ${BACKUP_ID}`],
      [{ tenantId: "acme" }, "the manifest belongs to no tenant, not acme"],
    ];
    for (const [expected, text] of cases) {
      const error = await errorOf(signed, expected);
      expect(error.code).toBe("manifest_foreign");
      expect(error.message).toBe(text);
    }
  });

  it("is older when its number is smaller than a known one, or it is not the recorded one", async () => {
    expect((await errorOf(signed, { minSequence: 8 })).message).toBe(
      "the manifest has number 7, older than number 8 which is known",
    );
    const error = await errorOf(signed, { digest: "e".repeat(64) });
    expect(error.code).toBe("manifest_older");
    expect(read(signed, { digest: digestOf(body) }).body.sequence).toBe(7);
  });
});

describe("the keys of a manifest", () => {
  const stateOf = (bytes: Uint8Array, signers = [site.signer]) =>
    (({ keysAre, keysSince }) => ({ keysAre, keysSince }))(readManifest(bytes, { signers }));
  const changed = { keysAre: "changed", keysSince: null };

  it("are signed with it, as of the moment it was finished", () => {
    expect(stateOf(signed)).toEqual({ keysAre: "signed", keysSince: body.finishedAt });
  });

  const edits: [string, (raw: { keys: WrappedKey[]; keysSignature: { at: string } }) => void][] = [
    [
      "one letter of a sealed key is another",
      ({ keys: [key] }) => {
        if (key !== undefined) key.sealed = (key.sealed.startsWith("A") ? "B" : "A") + key.sealed.slice(1);
      },
    ],
    ["a key was put beside them", ({ keys }) => keys.push(...keys)],
    [
      "the time is another",
      ({ keysSignature }) => Object.assign(keysSignature, { at: "2027-01-01T00:00:00Z" }),
    ],
    ["the signature is none", (raw) => Object.assign(raw, { keysSignature: null })],
  ];
  it.each(edits)("are seen to be changed when %s; the body is believed all the same", (_what, edit) => {
    const manifest = read(edited((raw) => edit(raw as never)));
    expect(manifest).toMatchObject({ ...changed, body, digest: digestOf(body) });
  });

  it("of early versions are not signed, and the manifest is valid", () => {
    const manifest = read(edited((raw) => Reflect.deleteProperty(raw, "keysSignature")));
    expect(manifest).toMatchObject({ keysAre: "unsigned", keysSince: null, keys });
    expect(manifest.keysDigest).toBe(read(signed).keysDigest);
  });

  it("cannot be those of another backup, nor signed by somebody else", () => {
    const other = signManifest({ ...body, note: "another" }, keys, site.signing);
    const { keysSignature } = JSON.parse(other.toString("utf8"));
    expect(stateOf(edited((raw) => Object.assign(raw, { keysSignature })))).toEqual(changed);
    const sealed = { at: body.finishedAt, signing: attacker.signing };
    const theirs = rewrapManifest(read(signed), keys, sealed);
    expect(stateOf(theirs)).toEqual(changed);
    expect(stateOf(theirs, [site.signer, attacker.signer]).keysAre).toBe("signed");
  });
});

describe("key rotation", () => {
  it("wraps the key anew under the old signature", async () => {
    const next = generateIdentity();
    const fresh = await wrapDataKey(DATA_KEY, [{ kind: "x25519", publicKey: next.recipient }], BACKUP_ID);
    const manifest = read(
      rewrapManifest(read(signed), fresh, { at: "2026-12-01T00:00:00.000Z", signing: site.signing }),
    );
    expect(manifest).toMatchObject({ keysAre: "signed", keysSince: "2026-12-01T00:00:00.000Z" });
    expect(manifest.digest).toBe(digestOf(body));
    const backup = { backupId: BACKUP_ID, commitment: manifest.body.keyCommitment };
    const open = (identity: typeof next.identity) =>
      unwrapDataKey(manifest.keys, [{ kind: "x25519", identity }], backup);
    expect(await open(next.identity)).toEqual(DATA_KEY);
    await expect(open(daily.identity)).rejects.toMatchObject({ code: "no_key" });
  });

  it("makes later keys than those before, also where the clock is behind", () => {
    const sealed = { at: "2020-01-01T00:00:00.000Z", signing: site.signing };
    const once = read(rewrapManifest(read(signed), keys, sealed));
    const twice = read(rewrapManifest(once, keys, sealed));
    expect([once.keysSince, twice.keysSince]).toEqual([
      "2026-11-20T02:10:00.001Z",
      "2026-11-20T02:10:00.002Z",
    ]);
  });
});

describe("a detached signature", () => {
  const report = Buffer.from('{"restored":true}');
  const signature = signDetached(report, site.signing, "restore report");
  const verify = (bytes: Uint8Array, domain = "restore report", signers = [site.signer]) =>
    verifyDetached(bytes, signature, { signers, domain, what: "the restore report" });

  it("holds for its bytes, its domain and a trusted signer", () => {
    expect(() => verify(report)).not.toThrow();
  });

  it("holds for nothing else", async () => {
    for (const act of [
      () => verify(Buffer.from('{"restored":false}')),
      () => verify(report, "drill report"),
      () => verify(report, "restore report", [attacker.signer]),
    ])
      expect((await thrownBy(act)).message).toBe(
        "the restore report is not signed by a trusted signer, or was changed",
      );
  });
});

describe("canonical JSON", () => {
  it("does not depend on the order of fields, and survives being written and read", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const parsed = JSON.parse(JSON.stringify(value));
        expect(canonicalJson(parsed)).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(parsed);
      }),
    );
    expect(canonicalJson({ b: [1, null], a: "é", c: undefined })).toBe('{"a":"é","b":[1,null]}');
  });

  it("has no text for what JSON cannot hold", () => {
    expect(() => canonicalJson({ a: Number.NaN })).toThrow(RangeError);
    expect(() => canonicalJson([1n])).toThrow(TypeError);
    expect(() => canonicalJson(() => 1)).toThrow(TypeError);
  });
});
