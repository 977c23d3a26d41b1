import { crc32cOf } from "./crc32c.js";

/** What every version of pg_control begins with: the system's identifier, the file's version, the catalog's version. */
export interface ControlFacts {
  systemId: string;
  catalogVersion: number;
}

export const controlFacts = (control: Buffer): ControlFacts => ({
  systemId: control.readBigUInt64LE(0).toString(),
  catalogVersion: control.readUInt32LE(12),
});

/** Between these lengths lies the content of every version; its checksum follows it. */
const SHORTEST_BYTES = 200;
const LONGEST_BYTES = 508;
const ALIGNMENT = 4;

/** Whether it was read as a whole: one that is being written has a checksum that fits to nothing. */
export function isWholeControl(control: Buffer): boolean {
  for (
    let length = SHORTEST_BYTES;
    length <= LONGEST_BYTES && length + 4 <= control.length;
    length += ALIGNMENT
  )
    if (crc32cOf(control.subarray(0, length)) === control.readUInt32LE(length)) return true;
  return false;
}
