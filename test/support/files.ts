import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const filesBelow = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .sort()
    : [];

/** The problems of a storage's folder as a reader would meet them: manifests that name objects which are not there. */
export function brokenBackups(storage: string): string[] {
  const files = new Set(filesBelow(storage));
  return [...files]
    .filter((file) => file.endsWith("manifest.json"))
    .flatMap((manifest) =>
      (JSON.parse(readFileSync(manifest, "utf8")) as { body: { objects: { name: string }[] } }).body.objects
        .map(({ name }) => join(manifest, "..", name))
        .filter((object) => !files.has(object)),
    );
}
