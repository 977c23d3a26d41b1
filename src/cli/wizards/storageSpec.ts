import { JBackupError } from "../../domain/errors.js";
import { Secret } from "../../domain/secret.js";
import type { Credentials, StorageDraft } from "../../domain/siteDraft.js";

/** A storage as `init --storage` takes it; credentials never stand on a command line. */
export const SPEC_FORMS =
  "NAME=/FOLDER, NAME=s3:https://ENDPOINT/BUCKET/PREFIX (?region=R) or NAME=b2:BUCKET/PREFIX";

const wrong = (spec: string, what: string): JBackupError =>
  new JBackupError("usage", `--storage ${spec}: ${what}`, { hint: `write it as ${SPEC_FORMS}` });

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** The variables that hold the credentials of a storage: R2_ID and R2_SECRET, B2_ID and B2_KEY. */
export function credentialVariables(name: string, kind: "s3" | "b2"): [id: string, secret: string] {
  const stem = name.toUpperCase().replaceAll(/[^A-Z0-9]/g, "_");
  return [`${stem}_ID`, kind === "s3" ? `${stem}_SECRET` : `${stem}_KEY`];
}

export function parseStorageSpec(spec: string, variable: (name: string) => string | undefined): StorageDraft {
  const [, name = "", rest = ""] = /^([^=]*)=(.*)$/s.exec(spec) ?? [];
  if (!NAME.test(name)) throw wrong(spec, "it does not begin with a name");
  if (rest.startsWith("/")) return { kind: "local", name, path: rest };
  const [, kind, place = ""] = /^(s3|b2):(.*)$/s.exec(rest) ?? [];
  if (kind !== "s3" && kind !== "b2") throw wrong(spec, "it is neither a folder nor s3: nor b2:");
  const { endpoint, bucket, prefix, region } = placeIn(spec, kind, place);
  const credentials = credentialsFrom(name, kind, variable);
  return kind === "s3"
    ? { kind, name, endpoint: endpoint as string, bucket, prefix, region, credentials }
    : { kind, name, endpoint, bucket, prefix, credentials };
}

interface Place {
  endpoint: string | undefined;
  bucket: string;
  prefix: string;
  region: string;
}

function placeIn(spec: string, kind: "s3" | "b2", text: string): Place {
  const hasEndpoint = /^https?:\/\//.test(text);
  if (kind === "s3" && !hasEndpoint) throw wrong(spec, "the address of the service is missing");
  const url = hasEndpoint ? URL.parse(text) : URL.parse(`b2://none/${text}`);
  if (url === null) throw wrong(spec, "that is no address");
  if (url.username !== "" || url.password !== "")
    throw wrong(spec, "credentials do not belong on a command line");
  const [bucket = "", ...folders] = url.pathname.split("/").filter((part) => part !== "");
  if (bucket === "") throw wrong(spec, "the bucket is missing");
  return {
    endpoint: hasEndpoint ? url.origin : undefined,
    bucket,
    prefix: folders.join("/"),
    region: url.searchParams.get("region") ?? "auto",
  };
}

function credentialsFrom(
  name: string,
  kind: "s3" | "b2",
  variable: (name: string) => string | undefined,
): Credentials {
  const [idName, secretName] = credentialVariables(name, kind);
  const [id, secret] = [variable(idName), variable(secretName)];
  if (id && secret) return { id: new Secret(id), secret: new Secret(secret) };
  throw new JBackupError("usage", `the credentials of storage ${name} are missing`, {
    hint: `set the environment variables ${idName} and ${secretName}; they are kept in files that only this user may read`,
  });
}

export function storageSpec(draft: StorageDraft): string {
  if (draft.kind === "local") return `${draft.name}=${draft.path}`;
  const place = [draft.bucket, ...(draft.prefix === "" ? [] : [draft.prefix])].join("/");
  const endpoint = draft.endpoint === undefined ? "" : `${draft.endpoint.replace(/\/$/, "")}/`;
  const region = draft.kind === "s3" && draft.region !== "auto" ? `?region=${draft.region}` : "";
  return `${draft.name}=${draft.kind}:${endpoint}${place}${region}`;
}
