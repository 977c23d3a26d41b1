import { readFile } from "node:fs/promises";

/** The users and groups of this host, by number and by name, as its files tell; those of a directory service are known by number only. */
export interface Accounts {
  userName(uid: number): string | null;
  groupName(gid: number): string | null;
  userId(name: string): number | null;
  groupId(name: string): number | null;
}

interface Table {
  byId: Map<number, string>;
  byName: Map<string, number>;
}

async function tableIn(file: string): Promise<Table> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return ""; // no such file on this kind of host: numbers will do
    throw error;
  });
  const table: Table = { byId: new Map(), byName: new Map() };
  for (const line of text.split("\n")) {
    const [name = "", , id = ""] = line.split(":");
    if (name === "" || !/^\d+$/.test(id)) continue;
    if (!table.byId.has(Number(id))) table.byId.set(Number(id), name);
    if (!table.byName.has(name)) table.byName.set(name, Number(id));
  }
  return table;
}

export async function accountsHere(): Promise<Accounts> {
  const [users, groups] = await Promise.all([tableIn("/etc/passwd"), tableIn("/etc/group")]);
  return {
    userName: (uid) => users.byId.get(uid) ?? null,
    groupName: (gid) => groups.byId.get(gid) ?? null,
    userId: (name) => users.byName.get(name) ?? null,
    groupId: (name) => groups.byName.get(name) ?? null,
  };
}
