export const SECRET_KEYS = new Set([
  "url",
  "secret",
  "accessKeyId",
  "secretAccessKey",
  "keyId",
  "applicationKey",
  "signing",
  "identity",
  "passphrase",
  "token",
  "accountId",
]);

export const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const PASSWORD_IN_ADDRESS = /^(\w+:\/\/[^:@/]*):[^@/]*@/;

/** An address is worth comparing, its password is nobody's business. */
const addressOf = (value: string): string =>
  /password/i.test(value) ? "***" : value.replace(PASSWORD_IN_ADDRESS, "$1:***@");

/** The settings with every secret that stands in them blanked. */
export const withoutSecrets = (settings: object): unknown =>
  JSON.parse(
    JSON.stringify(settings, (key, value: unknown) => {
      if (!SECRET_KEYS.has(key) || !isPlain(value) || !("value" in value)) return value;
      return { value: key === "url" ? addressOf(String(value.value)) : "***" };
    }),
  );
