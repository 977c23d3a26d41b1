import type { B2StorageConfig, S3StorageConfig } from "../../src/domain/config.js";
import { Secret } from "../../src/domain/secret.js";
import type { Swift } from "../support/swift.js";

const secret = (value: string) => async (): Promise<Secret> => new Secret(value);

export const s3Config = (
  server: Pick<Swift, "endpoint" | "accessKeyId" | "secretAccessKey" | "region">,
  bucket: string,
  prefix = "prod",
): S3StorageConfig => ({
  kind: "s3",
  name: "r2",
  endpoint: server.endpoint,
  bucket,
  prefix,
  region: server.region,
  accessKeyId: secret(server.accessKeyId),
  secretAccessKey: secret(server.secretAccessKey),
});

export const b2Config = (
  server: { endpoint: string; keyId: string; applicationKey: string },
  bucket: string,
  prefix = "prod",
): B2StorageConfig => ({
  kind: "b2",
  name: "b2",
  endpoint: server.endpoint,
  bucket,
  prefix,
  keyId: secret(server.keyId),
  applicationKey: secret(server.applicationKey),
});

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
