import type { Extent } from "../../domain/fileMap.js";
import type { NeededBackup } from "../../domain/manifest.js";
import type { Format } from "../site.js";
import type { Parent } from "./parent.js";

/** The older backups whose packs a new one refers to: numbered as they come up, with every pack that is needed. */
export class Sources {
  readonly #format: Format;
  readonly #parent: Parent | null;
  readonly #numbers = new Map<string, number>();
  readonly #packs = new Map<string, Set<number>>();

  constructor(format: Format, parent: Parent | null) {
    this.#format = format;
    this.#parent = parent;
  }

  /** An extent of the parent's map, as the new map must say it. */
  adopt([source, pack, offset, bytes]: Extent): Extent {
    const id = this.#parent?.sourceId(source) ?? "";
    const number = this.#numbers.get(id) ?? this.#numbers.size + 1;
    this.#numbers.set(id, number);
    const packs = this.#packs.get(id) ?? new Set();
    this.#packs.set(id, packs.add(pack));
    return [number, pack, offset, bytes];
  }

  get ids(): string[] {
    return [...this.#numbers.keys()];
  }

  needs(): NeededBackup[] {
    const parent = this.#parent;
    if (parent === null) return [];
    return this.ids.map((backupId) => {
      const packs = [...(this.#packs.get(backupId) ?? [])].sort((a, b) => a - b);
      const objects = packs.map((pack) => parent.object(backupId, this.#format.packName(pack)));
      return {
        backupId,
        folder: objects[0]?.folder ?? "",
        objects: objects.map(({ facts }) => facts),
      };
    });
  }
}
