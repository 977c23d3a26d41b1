/** Names come back as paths on somebody's disk, so both ends refuse what could leave the folder. */

const OBJECT_NAME = /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/;
const CONTROL = /\p{Cc}/u;
const NAME_MAX_BYTES = 1024;

/** An object's name: relative, letters, digits, dot, dash and underscore between slashes. */
export const isObjectName = (name: unknown): name is string =>
  typeof name === "string" && name.length <= NAME_MAX_BYTES && OBJECT_NAME.test(name) && !hasDots(name);

/** An entry's name may hold any letters (files have such names), but stays relative and printable. */
export const isEntryName = (name: unknown): name is string =>
  typeof name === "string" &&
  name !== "" &&
  Buffer.byteLength(name) <= NAME_MAX_BYTES &&
  name.isWellFormed() &&
  !CONTROL.test(name) &&
  name.split("/").every((part) => part !== "") &&
  !hasDots(name);

const hasDots = (name: string): boolean => name.split("/").some((part) => part === "." || part === "..");
