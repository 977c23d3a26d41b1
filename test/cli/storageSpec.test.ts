import { expect, test } from "vitest";
import { parseStorageSpec, storageSpec } from "../../src/cli/wizards/storageSpec.js";
import type { JBackupError } from "../../src/domain/errors.js";

const variable = (name: string): string | undefined =>
  name.startsWith("NONE") ? undefined : `value of ${name}`;

test.each([
  "local=/var/backups/shop",
  "r2=s3:https://account.r2.cloudflarestorage.com/shop/prod/db",
  "minio=s3:http://127.0.0.1:9000/shop?region=eu-1",
  "b2=b2:shop/prod",
  "b2=b2:http://127.0.0.1:9000/shop/prod",
])("%s is read, and written as it was", (spec) => {
  const draft = parseStorageSpec(spec, variable);
  expect(storageSpec(draft)).toBe(spec);
  if (draft.kind === "local") return;
  const name = draft.name.toUpperCase();
  expect(draft.credentials.id.reveal()).toBe(`value of ${name}_ID`);
  expect(draft.credentials.secret.reveal()).toBe(
    `value of ${name}_${draft.kind === "b2" ? "KEY" : "SECRET"}`,
  );
});

test.each([
  ["/var/backups", "it does not begin with a name"],
  ["a b=/var", "it does not begin with a name"],
  ["x=backups", "it is neither a folder nor s3: nor b2:"],
  ["x=s3:bucket/prefix", "the address of the service is missing"],
  ["x=s3:https://host", "the bucket is missing"],
  ["x=s3:https://id:secret@host/bucket", "credentials do not belong on a command line"],
  ["x=b2:", "the bucket is missing"],
])("%s is refused", (spec, what) => {
  expect(() => parseStorageSpec(spec, variable)).toThrow(`--storage ${spec}: ${what}`);
});

test("missing credentials are named", () => {
  try {
    parseStorageSpec("none=b2:shop", variable);
    expect.unreachable();
  } catch (error) {
    expect((error as JBackupError).hint).toContain("NONE_ID and NONE_KEY");
  }
});
