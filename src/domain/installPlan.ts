/** What a bare host needs to take over, told from what the old one was. */
export interface HostFacts {
  name: string;
  system: string;
  kernel: string;
  architecture: string;
  node: string;
  jbackup: string;
  /** Packages of PostgreSQL and around it; null where the host has no package manager that tells. */
  packages: { name: string; version: string }[] | null;
}

export interface ExtensionFacts {
  database: string;
  name: string;
  version: string;
  /** The package that brings it, where that is known. */
  package: string | null;
}

export interface PlannedServer {
  version: string;
  major: number;
  /** Whether it runs on the host that was looked at. */
  isHere: boolean;
  dataDirectory: string | null;
  databases: { name: string; encoding: string; collate: string; ctype: string; locale: string | null }[];
  extensions: ExtensionFacts[];
  tablespaces: { name: string; location: string; owner: string }[];
  settings: { name: string; value: string; unit: string | null; source: string | null }[];
  hasRoles: boolean;
}

export interface PlanFacts {
  site: string;
  label: string;
  takenAt: string;
  configFile: string;
  host: HostFacts;
  server: PlannedServer | null;
  /** Users other than root that own files here. */
  owners: string[];
  roots: string[];
}

interface Part {
  title: string;
  lines: string[];
}

const command = (text: string): string => `    ${text}`;
const fromProject = ({ packages }: HostFacts): boolean =>
  packages?.some(({ version }) => version.includes("pgdg")) ?? false;

/** Which locales must be there before a database that uses them can start. */
export function localesOf(server: PlannedServer): string[] {
  const named = server.databases.flatMap(({ collate, ctype }) => [collate, ctype]);
  return [...new Set(named)].filter((name) => !/^(C|POSIX)(\.UTF-?8)?$/i.test(name)).sort();
}

/** Libraries that the server loads when it starts, and would not start without. */
export function preloadedIn(server: PlannedServer): string[] {
  const setting = server.settings.find(({ name }) => name === "shared_preload_libraries");
  return (setting?.value ?? "")
    .split(",")
    .map((name) => name.trim().replaceAll('"', ""))
    .filter((name) => name !== "");
}

function packagesPart({ host, server }: PlanFacts): Part {
  const major = server?.major;
  const own = (host.packages ?? []).filter(
    ({ name }) => major === undefined || !/^postgresql-\d/.test(name) || name.includes(String(major)),
  );
  const fromExtensions =
    server?.extensions.flatMap(({ package: name }) => (name === null ? [] : [name])) ?? [];
  const wanted = [...new Set([...own.map(({ name }) => name), ...fromExtensions])].sort();
  const fallback =
    major === undefined ? ["postgresql"] : [`postgresql-${major}`, `postgresql-client-${major}`];
  const names = wanted.length > 0 ? wanted : fallback;
  return {
    title: "Packages",
    lines: [
      ...(fromProject(host)
        ? [
            "The old host had packages of apt.postgresql.org: add that source first.",
            command(
              "apt-get install postgresql-common && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh",
            ),
          ]
        : []),
      "On Debian and Ubuntu a new package makes a cluster at once; this keeps it from doing so:",
      command(
        "mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf",
      ),
      command(`apt-get install ${names.join(" ")} acl`),
      ...(own.length > 0
        ? ["Versions of the old host:", ...own.map(({ name, version }) => `- ${name} ${version}`)]
        : []),
    ],
  };
}

function needsPart(server: PlannedServer): Part {
  const locales = localesOf(server);
  const preloaded = preloadedIn(server);
  const unknown = server.extensions.filter(
    ({ package: name, name: own }) => name === null && own !== "plpgsql",
  );
  return {
    title: "What the server needs to start",
    lines: [
      ...(locales.length === 0
        ? ["No locales beyond C."]
        : [
            `Locales of the databases: ${locales.join(", ")}. Indexes on text are only right with the collations of the same system release; on another one, reindex.`,
            ...locales.map((name) =>
              command(
                `locale -a | grep -i '${name.split(".")[0]}' || localedef -i ${name.split(/[.@]/)[0]} -f UTF-8 ${name}`,
              ),
            ),
          ]),
      ...(preloaded.length === 0
        ? []
        : [
            `Libraries in shared_preload_libraries, without which it does not start: ${preloaded.join(", ")}.`,
          ]),
      ...(unknown.length === 0
        ? []
        : [
            `Extensions whose package is not known: ${[...new Set(unknown.map(({ name, version }) => `${name} ${version}`))].join(", ")}.`,
          ]),
      ...server.tablespaces.map(({ name, location }) =>
        command(`install -d -o postgres -g postgres -m 700 ${location}    # tablespace ${name}`),
      ),
    ],
  };
}

const memorySettings = [
  "shared_buffers",
  "huge_pages",
  "max_connections",
  "max_worker_processes",
  "max_locks_per_transaction",
];

function settingsPart(server: PlannedServer): Part | null {
  const telling = server.settings.filter(({ name }) => memorySettings.includes(name));
  if (telling.length === 0) return null;
  return {
    title: "Settings that must fit the new host",
    lines: telling.map(
      ({ name, value, unit, source }) =>
        `- ${name} = ${value}${unit === null ? "" : ` (in ${unit})`}${source === null ? "" : `, from ${source}`}`,
    ),
  };
}

function parts(facts: PlanFacts): Part[] {
  const { server, host, label, roots, owners, configFile } = facts;
  const directory = server?.dataDirectory ?? "/var/lib/postgresql/VERSION/main";
  const settings = server === null ? null : settingsPart(server);
  return [
    packagesPart(facts),
    ...(server === null ? [] : [needsPart(server)]),
    ...(settings === null ? [] : [settings]),
    {
      title: "jbackup and its keys",
      lines: [
        `Install Node (the old host had ${host.node}) and jbackup ${host.jbackup}.`,
        `Put ${configFile} in its place, from ${configFile.startsWith("/") ? `files${configFile}` : "files/"} beside this plan, and the identity, from the recovery kit (part 4 of it is a configuration for this host, too).`,
        "The signing key is not in the kit. Bringing back needs none: leave recipients and signing out of keys, and name signers. To back up from here bring the old one, or make a new set and name it in keys:",
        command("jbackup keys new --out NEW_FOLDER"),
        command("jbackup doctor"),
      ],
    },
    {
      title: "Configuration files",
      lines: [
        ...(owners.length === 0
          ? []
          : [`Files here belong to these users, which must exist first: ${owners.join(", ")}.`]),
        `Look at what would change, then bring back ${roots.length === 0 ? "what is wanted" : roots.join(", ")}:`,
        command(`jbackup restore ${label} --in-place --dry-run`),
        command(`jbackup restore ${label} --in-place --confirm "$(hostname)" --reason "new host"`),
      ],
    },
    {
      title: "The data",
      lines: [
        "The whole cluster, to the last archived moment:",
        command(`jbackup restore latest --mode pitr --to latest --into-dir ${directory} --reason "new host"`),
        ...(server?.hasRoles === true
          ? [
              "Where a logical backup is loaded into a new cluster instead, the roles come first:",
              command("psql -f postgres/roles.sql postgres"),
            ]
          : []),
        "Or let the runbook lead through all of it, with the clock on:",
        command(`jbackup dr run server-lost --set directory=${directory}`),
      ],
    },
    {
      title: "Afterwards",
      lines: [
        "Compare postgres/settings.json, postgres/hba.json and postgres/databases.json with the new server, then protect it:",
        command("jbackup backup full --with-config"),
        command("jbackup doctor"),
      ],
    },
  ];
}

/** A text for a person at night: what to install and do, in which order. */
export function installPlan(facts: PlanFacts): string {
  const { site, label, takenAt, host, server } = facts;
  const about = [
    `- host: ${host.name}, ${host.system}, kernel ${host.kernel}, ${host.architecture}`,
    server === null
      ? "- PostgreSQL: could not be asked when this was taken"
      : `- PostgreSQL: ${server.version}${server.isHere ? "" : ", on another host than this one: its packages are not known here"}`,
    ...(server === null
      ? []
      : server.databases.map(
          ({ name, encoding, collate, locale }) =>
            `- database ${name}: ${encoding}, collation ${locale ?? collate}${extensionsIn(server, name)}`,
        )),
  ];
  const steps = parts(facts).flatMap(({ title, lines }, at) => [
    `## ${at + 1}. ${title}`,
    "",
    ...spaced(lines),
    "",
  ]);
  return [
    `# Install plan of ${site}`,
    "",
    `Taken with ${label} at ${takenAt}.`,
    "",
    ...about,
    "",
    ...steps,
  ].join("\n");
}

function extensionsIn({ extensions }: PlannedServer, database: string): string {
  const own = extensions.filter((one) => one.database === database && one.name !== "plpgsql");
  return own.length === 0 ? "" : `, with ${own.map(({ name, version }) => `${name} ${version}`).join(", ")}`;
}

/** Markdown wants an empty line between a sentence and the commands below it. */
const spaced = (lines: string[]): string[] =>
  lines.flatMap((line, at) => {
    const kindOf = (text: string | undefined): string =>
      text === undefined ? "" : text.startsWith("    ") ? "code" : text.startsWith("- ") ? "item" : "text";
    const isNewBlock = at > 0 && (kindOf(line) !== kindOf(lines[at - 1]) || kindOf(line) === "text");
    return isNewBlock ? ["", line] : [line];
  });
