import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import type { Swift } from "./swift.js";

export interface S3Objects {
  names(prefix: string): Promise<string[]>;
  read(name: string): Promise<Buffer>;
  write(name: string, bytes: Buffer): Promise<void>;
  remove(name: string): Promise<void>;
  close(): void;
}

/** A bucket in the hands of somebody who owes the product nothing. */
export function s3Objects(swift: Swift, bucket: string): S3Objects {
  const client = new S3Client({
    endpoint: swift.endpoint,
    region: swift.region,
    forcePathStyle: true,
    credentials: { accessKeyId: swift.accessKeyId, secretAccessKey: swift.secretAccessKey },
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
  return {
    async names(prefix) {
      const found = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
      return (found.Contents ?? []).map(({ Key }) => Key ?? "").sort();
    },
    async read(name) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: name }));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    async write(name, bytes) {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: name, Body: bytes }));
    },
    async remove(name) {
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: name }));
    },
    close: () => client.destroy(),
  };
}
