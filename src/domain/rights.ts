import type { StorageKind } from "./backup.js";

/** What was tried and worked, was refused, or could not be found out. */
export type Right = "yes" | "no" | "unknown";

/** What the credentials that make backups were seen to be able to do in a storage. */
export interface ProbedRights {
  write: Right;
  read: Right;
  list: Right;
  /** Put another body under a key that is taken. */
  overwrite: Right;
  delete: Right;
  /** Where every put makes a version: remove one of those for good. */
  deleteVersion: Right;
  /** See what is not below the configured prefix. */
  listOutside: Right;
  /** Whether what is overwritten or deleted stays as an older version. */
  versioning: Right;
  /** Object Lock, file locks, bucket locks: what the API tells of them. */
  objectLock: Right;
  /** Keys of the probe that could not be taken away again. */
  left: string[];
}

export type Provider = "local" | "aws" | "r2" | "b2" | "s3";

/** As far as advice depends on it. */
export interface StoragePlace {
  name: string;
  kind: StorageKind;
  endpoint: string | null;
  bucket: string | null;
  prefix: string;
  hasCleanupCredentials: boolean;
  retentionDays: number;
}

export function providerOf({ kind, endpoint }: Pick<StoragePlace, "kind" | "endpoint">): Provider {
  if (kind !== "s3") return kind;
  const host = endpoint === null ? "" : endpoint.replace(/^https?:\/\//, "").replace(/[:/].*$/, "");
  if (host.endsWith(".r2.cloudflarestorage.com")) return "r2";
  if (host.endsWith(".amazonaws.com")) return "aws";
  return host.endsWith(".backblazeb2.com") ? "b2" : "s3";
}

/** Whether whoever steals these credentials can make backups unrecoverable; null when that was not found out. */
export function mayDestroy(rights: ProbedRights): boolean | null {
  if (rights.versioning === "yes") return known(rights.deleteVersion);
  if (rights.overwrite === "yes" || rights.delete === "yes") return true;
  return rights.overwrite === "no" && rights.delete === "no" ? false : null;
}

const known = (right: Right): boolean | null => (right === "unknown" ? null : right === "yes");

/** What is wrong with the rights, one sentence each; nothing where they are as they should be. */
export function problemsOf(place: StoragePlace, rights: ProbedRights): string[] {
  const problems: string[] = [];
  for (const needed of ["write", "read", "list"] as const)
    if (rights[needed] === "no") problems.push(`they may not ${needed}, which every backup needs`);
  const destroys = mayDestroy(rights);
  if (destroys === null) problems.push("it could not be found out whether they may delete for good");
  else if (destroys) {
    const how = rights.versioning === "yes" || rights.delete === "yes" ? "delete" : "overwrite";
    problems.push(
      place.hasCleanupCredentials
        ? `they may ${how} backups for good, although cleanup has credentials of its own`
        : `they may ${how} backups for good: whoever steals them can destroy every backup there`,
    );
  }
  if (rights.listOutside === "yes")
    problems.push("they see what is outside of the prefix, which is nobody's need");
  return problems;
}

const below = ({ prefix }: StoragePlace): string => (prefix === "" ? "" : `${prefix}/`);

const OWN_CREDENTIALS: Record<"s3" | "b2", string> = {
  s3: "give jbackup cleanup credentials of its own, on a host that makes no backups: cleanup: {accessKeyId: ..., secretAccessKey: ...}",
  b2: "give jbackup cleanup a key of its own, on a host that makes no backups: cleanup: {keyId: ..., applicationKey: ...}",
};

/** What to set, in the words and commands of the provider. */
export const ADVICE: Record<Provider, (place: StoragePlace) => string[]> = {
  local: () => [
    "a local storage is as safe as this host: whoever becomes root here can remove it, so keep another one elsewhere",
  ],
  r2: (place) => [
    "R2 has no right to write without the right to delete: let the bucket itself hold what is stored, by a lock rule",
    `npx wrangler r2 bucket lock add ${place.bucket} --name jbackup --prefix "${below(place)}backups/" --retention-days ${place.retentionDays}`,
    "make the token for this bucket only (Object Read & Write); what is locked, cleanup removes when the lock has ended",
  ],
  b2: (place) => [
    `b2 key create --bucket ${place.bucket}${place.prefix === "" ? "" : ` --name-prefix "${below(place)}"`} jbackup-backup listBuckets,listFiles,readFiles,writeFiles`,
    "such a key can add and hide, never delete: older versions stay and can be shown again",
    `b2 key create --bucket ${place.bucket}${place.prefix === "" ? "" : ` --name-prefix "${below(place)}"`} jbackup-cleanup listBuckets,listFiles,readFiles,writeFiles,deleteFiles`,
    OWN_CREDENTIALS.b2,
    `for protection from every key: switch Object Lock on in the bucket's settings, with a default retention of ${place.retentionDays} days`,
  ],
  aws: (place) => [
    `aws s3api put-bucket-versioning --bucket ${place.bucket} --versioning-configuration Status=Enabled`,
    `give the user that backs up this policy: ${backupPolicy(place)}`,
    OWN_CREDENTIALS.s3,
    `for protection from every user: Object Lock with a default retention of ${place.retentionDays} days: aws s3api put-object-lock-configuration --bucket ${place.bucket} --object-lock-configuration '{"ObjectLockEnabled":"Enabled","Rule":{"DefaultRetention":{"Mode":"COMPLIANCE","Days":${place.retentionDays}}}}'`,
  ],
  s3: (place) => [
    "switch versioning on for the bucket, and where the server has it, Object Lock with a default retention",
    `give the user that backs up a policy such as this one: ${backupPolicy(place)}`,
    OWN_CREDENTIALS.s3,
  ],
};

export const adviceFor = (place: StoragePlace): string[] => ADVICE[providerOf(place)](place);

function backupPolicy(place: StoragePlace): string {
  const bucket = `arn:aws:s3:::${place.bucket}`;
  const list = {
    Effect: "Allow",
    Action: ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
    Resource: bucket,
    ...(place.prefix === "" ? {} : { Condition: { StringLike: { "s3:prefix": `${below(place)}*` } } }),
  };
  const objects = {
    Effect: "Allow",
    Action: ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
    Resource: `${bucket}/${below(place)}*`,
  };
  return JSON.stringify({ Version: "2012-10-17", Statement: [list, objects] });
}
