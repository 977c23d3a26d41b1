import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Secret } from "../../src/domain/secret.js";
import {
  checkRecipient,
  checkSigner,
  generateIdentity,
  generateSigning,
  recipientOf,
  signerOf,
} from "../../src/format/format.js";
import { decodeKey, encodeKey, type KeyKind } from "../../src/format/text.js";
import { thrownBy } from "./support.js";

const kinds: KeyKind[] = ["recipient", "identity", "signer", "signing"];
const anyKey = fc.tuple(fc.constantFrom(...kinds), fc.uint8Array({ minLength: 32, maxLength: 32 }));

describe("keys as text", () => {
  it("come back as the same bytes, whatever the case and the space around them", () => {
    fc.assert(
      fc.property(anyKey, ([kind, bytes]) => {
        const text = encodeKey(kind, bytes);
        expect(text).toMatch(/^jbk1(pub|sec|ver|sig)[a-z2-7]{58}$/);
        expect(decodeKey(kind, ` ${text.toUpperCase()}\n`)).toEqual(Buffer.from(bytes));
      }),
    );
  });

  it("with any one letter changed are refused", async () => {
    const letters = "abcdefghijklmnopqrstuvwxyz234567";
    await fc.assert(
      fc.asyncProperty(anyKey, fc.nat(57), fc.nat(30), async ([kind, bytes], at, shift) => {
        const text = encodeKey(kind, bytes);
        const old = letters.indexOf(text.charAt(at + 7));
        const typo = text.slice(0, at + 7) + letters.charAt((old + 1 + shift) % 32) + text.slice(at + 8);
        expect((await thrownBy(() => decodeKey(kind, typo))).code).toBe("config_invalid");
      }),
    );
  });

  it("cut short, or longer, are refused", async () => {
    const { recipient } = generateIdentity();
    for (const text of [
      recipient.slice(0, -1),
      `${recipient}a`,
      "jbk1pub",
      `${recipient}${recipient.slice(7)}`,
    ])
      expect((await thrownBy(() => checkRecipient(text))).code).toBe("config_invalid");
  });

  it("name a typo with the public key in question", async () => {
    const { recipient } = generateIdentity();
    const typo = recipient.slice(0, -1);
    const error = await thrownBy(() => checkRecipient(typo));
    expect(error.message).toBe(`a recipient ${typo} is mistyped or cut short: its checksum does not match`);
    expect(error.hint).toBe("Copy it again whole: jbk1pub and 58 letters and digits.");
    expect(error.exitCode).toBe(2);
  });
});

describe("a private key where a public one belongs", () => {
  it("gets its own message and is not repeated", async () => {
    const secret = generateIdentity().identity.reveal();
    const error = await thrownBy(() => checkRecipient(secret));
    expect(error.message).toBe("a private key (an identity) stands where a recipient belongs");
    expect(error.hint).toBe(
      "Put its public half there, which begins with jbk1pub; take the private key out of this file, and run `jbackup keys rotate` if others could read it.",
    );
    expect(JSON.stringify([error.message, error.hint, error.details])).not.toContain(secret.slice(7, 20));
  });

  it("is not repeated either when it is mistyped or of the other pair", async () => {
    const signing = generateSigning().signing.reveal();
    for (const act of [
      () => checkSigner(signing),
      () => checkRecipient(signing),
      () => recipientOf(new Secret(signing)),
      () => signerOf(new Secret(signing.slice(0, -2))),
    ]) {
      const error = await thrownBy(act);
      expect(error.code).toBe("config_invalid");
      expect(`${error.message} ${error.hint}`).not.toContain(signing.slice(7, 20));
    }
  });
});

describe("pairs", () => {
  it("belong together, and two are never the same", () => {
    const pair = generateIdentity();
    expect(recipientOf(pair.identity)).toBe(pair.recipient);
    expect(checkRecipient(pair.recipient)).toBe(pair.recipient);
    expect(generateIdentity().recipient).not.toBe(pair.recipient);
    const signing = generateSigning();
    expect(signerOf(signing.signing)).toBe(signing.signer);
    expect(checkSigner(signing.signer)).toBe(signing.signer);
  });

  it("hide the private half from strings and JSON", () => {
    const { identity } = generateIdentity();
    expect(`${identity} ${JSON.stringify({ identity })}`).not.toContain("jbk1sec");
  });
});
