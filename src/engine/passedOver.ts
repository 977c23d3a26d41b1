import { JBackupError } from "../domain/errors.js";

/** A newer backup than the one that is taken. */
export interface PassedOver {
  id: string;
  error: JBackupError;
}

/** What is known of backups that may be newer than the one that was found. */
export interface Newer {
  passedOver: PassedOver[];
  /** Storages that could not tell whether they hold a newer one, where no catalog tells either. */
  untold: string[];
}

export const nothingNewer: Newer = { passedOver: [], untold: [] };

/** Whoever can write to a storage can plant a manifest, or spoil one: that stands in nobody's way. What is out of reach is the newest all the same. */
export const isUnbelieved = ({ error }: PassedOver): boolean => error.code.startsWith("manifest_");

export const passedOverText = ({ id, error }: PassedOver): string =>
  `backup ${id} is passed over: ${error.message}`;

/** For the answer and the record: what was taken may not be the newest there is. */
export const newerTexts = ({ passedOver, untold }: Newer): string[] => [
  ...passedOver.map(passedOverText),
  ...untold.map((name) => `whether storage ${name}, which was not read, holds a newer backup is not known`),
];

/** Whether `latest` was refused because the newest is out of reach. */
export const isOutOfReach = ({ details }: JBackupError): boolean => details?.nextOlder !== undefined;

/** The older backup that would do instead. */
export const nextOlderIn = ({ details }: JBackupError): string | null =>
  typeof details?.nextOlder === "string" ? details.nextOlder : null;

/** Nobody who asks for the newest gets an older one unasked. */
export function newestOutOfReach({ id, error }: PassedOver, older: string | null): JBackupError {
  const { code, message, hint, details } = error;
  const other = older === null ? [] : [`name the next older backup instead of latest: ${older}`];
  return new JBackupError(code, `the newest backup is out of reach: ${message}`, {
    cause: error,
    hint: [...(hint === undefined ? [] : [hint]), ...other].join("; or "),
    details: { ...details, backupId: id, nextOlder: older },
  });
}
