import type { Witness } from "../domain/auditHead.js";
import { type AuditState, isSoundAudit } from "./auditWitnesses.js";

/** Where to look, and what to do where it was no attack. */
export const AUDIT_HINT =
  "find out who can write to the catalog, and compare with what jbackup audit export kept elsewhere; if the catalog was lost or put back to an older state, jbackup catalog rebuild writes that down";

/** What is wrong with the audit, one sentence each. */
export function auditProblems(state: AuditState): string[] {
  const { brokenAt, isEmptied, contradicting } = state;
  const [newest] = contradicting;
  return [
    ...(brokenAt === null
      ? []
      : [`the chain is broken at entry ${brokenAt}: it was changed, or what stood before it was removed`]),
    ...(newest === undefined ? [] : [contradictionText(newest, state)]),
    ...(isEmptied && newest === undefined
      ? ["the audit has no entry, and this site has backups, whose first job made one"]
      : []),
  ];
}

const contradictionText = ({ label, head }: Witness, { entries }: AuditState): string =>
  entries < head.entries
    ? `the end of the audit was cut off: the signed manifest of ${label} knew ${head.entries} entries, and ${entries} are here`
    : `the audit was written anew: the signed manifest of ${label} knew another entry ${head.entries} than the one among the ${entries} here`;

/** What an operator should know although nothing is wrong. */
export function auditWarnings(state: AuditState): string[] {
  const { gaps, elsewhere, unread, storagesAway, confirmed } = state;
  const [first] = unread;
  const [other] = elsewhere;
  return [
    ...gaps.map(
      ({ rebuiltAt, rebuiltBy, label, entries }) =>
        `entries from before the rebuild of ${rebuiltAt} by ${rebuiltBy} are not here: the signed manifest of ${label} knew ${entries} of them`,
    ),
    ...storagesAway.map(({ storage, problem }) => `storage ${storage} was not asked: ${problem}`),
    ...(first === undefined
      ? []
      : [
          `the manifests of ${unread.length} backups were not believed or not found, the first of them: ${first.problem}`,
        ]),
    ...(other === undefined
      ? []
      : [
          `${elsewhere.length} of the backups that were asked, ${other.label} the newest, were made with another catalog by ${other.createdBy}: that one's audit is checked there`,
        ]),
    ...(confirmed === null && isSoundAudit(state)
      ? [
          "no signed manifest says how far the audit went: that its end was not cut off is known from the next backup on",
        ]
      : []),
  ];
}
