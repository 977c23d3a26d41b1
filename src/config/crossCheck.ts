import { resolve } from "node:path";
import type { z } from "zod";
import { nearest } from "../domain/similar.js";
import { isPlain } from "./blanked.js";
import { policySchema, type Settings, settingsSchema, storageSchema } from "./settings.js";
import { type KeyProblem, plainly } from "./yamlFile.js";

type StorageSettings = NonNullable<Settings["storages"]>[number];

/** A part of the file as far as it is right by itself; undefined otherwise, for what is wrong there is told already. */
const legible = <Value>(schema: z.ZodType<Value>, value: unknown): Value | undefined =>
  schema.safeParse(value).data;

const listIn = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** Whether a key is missing only because it is misspelt: that is told once, where it stands. */
const isMisspelt = (mapping: Record<string, unknown>, key: string, known: readonly string[]): boolean =>
  !(key in mapping) &&
  Object.keys(mapping).some((one) => !known.includes(one) && nearest(one, known) === key);

/**
 * Rules that tie one key to another, for a file that may have other mistakes: each rule looks at what it can read, and is silent
 * where a mistake that is told anyway may be the reason.
 */
export function crossCheck(file: unknown): KeyProblem[] {
  if (!isPlain(file)) return [];
  return [
    ...storageProblems(file),
    ...retentionProblems(file),
    ...twice(isPlain(file.alerts) ? file.alerts.channels : undefined, ["alerts", "channels"]),
    ...twice(isPlain(file.testRestore) ? file.testRestore.assertions : undefined, [
      "testRestore",
      "assertions",
    ]),
    ...keyProblems(file.keys),
  ];
}

/** The names of the storages, null for one that cannot be read; undefined where not even their number is known. */
function storageNames(file: Record<string, unknown>): (string | null)[] | undefined {
  if (isMisspelt(file, "storages", Object.keys(settingsSchema.shape))) return undefined;
  if (file.storages === undefined) return ["local"];
  if (!Array.isArray(file.storages) || file.storages.length === 0) return undefined;
  return file.storages.map((storage) =>
    isPlain(storage) && typeof storage.name === "string" ? storage.name : null,
  );
}

const placeOf = (storage: StorageSettings): string =>
  storage.kind === "local"
    ? resolve(storage.path)
    : [storage.kind, storage.endpoint ?? "", storage.bucket, storage.prefix].join("|");

function storageProblems(file: Record<string, unknown>): KeyProblem[] {
  const storages = listIn(file.storages).map((storage) => legible(storageSchema, storage));
  const places = storages.map((storage) => (storage === undefined ? undefined : placeOf(storage)));
  const doubled = places.flatMap((place, index): KeyProblem[] => {
    const first = places.indexOf(place);
    if (place === undefined || first === index) return [];
    return [
      {
        path: ["storages", index],
        message: `the same place as storage "${storages[first]?.name}": two copies there are lost together`,
      },
    ];
  });
  const count = storageNames(file)?.length;
  const copies = legible(settingsSchema.shape.minCopies, file.minCopies);
  const tooMany = count !== undefined && copies !== undefined && copies > count;
  return [
    ...twice(file.storages, ["storages"]),
    ...doubled,
    ...(tooMany
      ? [
          {
            path: ["minCopies"],
            message: `${copies} copies are wanted but only ${count} storage${count === 1 ? " is" : "s are"} configured`,
          },
        ]
      : []),
  ];
}

function retentionProblems(file: Record<string, unknown>): KeyProblem[] {
  if (!isPlain(file.retention)) return [];
  const names = storageNames(file);
  const areKnown = names?.every((name) => name !== null) ?? false;
  const known = (names ?? []).filter((name) => name !== null);
  return Object.entries(file.retention)
    .filter(([name]) => name !== "pitrWindow")
    .flatMap(([name, value]): KeyProblem[] => {
      const isStorage = known.includes(name);
      const meant = nearest(name, [...known, "pitrWindow"]);
      const hint = meant ? `; did you mean "${meant}"?` : `; storages are ${known.join(", ")}`;
      const unknown =
        isStorage || !areKnown
          ? []
          : [{ path: ["retention", name], message: `there is no storage "${name}"${hint}` }];
      // what is no storage's may be no policy either
      return isStorage || isPlain(value) ? [...unknown, ...policyProblems(name, value)] : unknown;
    });
}

function policyProblems(name: string, value: unknown): KeyProblem[] {
  const policy = policySchema.safeParse(value, { error: plainly });
  if (!policy.success)
    return policy.error.issues.map(({ path, message }) => ({
      path: ["retention", name, ...path],
      message,
    }));
  const isEmpty = Object.values(policy.data).every((part) => part === undefined || part === 0);
  return isEmpty
    ? [
        {
          path: ["retention", name],
          message: "an empty policy would keep nothing; give within, last, daily, ...",
        },
      ]
    : [];
}

/** What is called by its name must be told from the others by it. */
function twice(list: unknown, path: string[]): KeyProblem[] {
  const names = listIn(list).map((one) => (isPlain(one) ? one.name : undefined));
  return names.flatMap((name, index) =>
    typeof name === "string" && names.indexOf(name) !== index
      ? [{ path: [...path, index, "name"], message: `the name "${name}" is used twice` }]
      : [],
  );
}

const KEYS = Object.keys(settingsSchema.shape.keys.unwrap().shape);

function keyProblems(keys: unknown): KeyProblem[] {
  if (!isPlain(keys)) return [];
  const isThere = (key: string): boolean => key in keys && keys[key] !== null;
  const isMissing = (key: string): boolean => !isThere(key) && !isMisspelt(keys, key, KEYS);
  // a host that only restores needs its identity, and whose signatures to believe
  if (isThere("identity") && isMissing("signing"))
    return isMissing("signers")
      ? [
          {
            path: ["keys"],
            message:
              "neither signers nor signing: no backup would be believed; add signers, which stand in the recovery kit",
          },
        ]
      : [];
  if (isThere("recipients") && isMissing("signing"))
    return [
      {
        path: ["keys"],
        message: "recipients without a signing key: backups must be signed; add signing (jbackup keys new)",
      },
    ];
  if (isMissing("recipients") && isThere("signing"))
    return [{ path: ["keys"], message: "recipients are missing; jbackup keys new prints a complete set" }];
  return [];
}
