/**
 * Subjects on NATS, version 1 of the schema:
 *
 *     lockstep.v1.<run id>.step            every final step, from each member of its view and the coordinator
 *     lockstep.v1.<run id>.epoch           every finished epoch, likewise
 *     lockstep.v1.<run id>.event           views, losses, heals, checkpoints, phases: from the coordinator
 *     lockstep.v1.<run id>.worker.<name>   how a worker is doing, about once a second
 *
 * Several runs share one server without mixing. `lockstep.v1.>` is everything, `lockstep.v1.*.step` the steps of all runs.
 */
export const SUBJECT_ROOT = "lockstep.v1";

export type SubjectKind = "step" | "epoch" | "event";

/** One token of a subject: NATS allows neither dots, spaces nor wildcards in it. */
export const tokenOf = (text: string): string => {
  const token = text.replace(/[^A-Za-z0-9_-]/g, "_");
  return token === "" ? "_" : token;
};

export const subjectOf = (run: string, kind: SubjectKind): string => `${SUBJECT_ROOT}.${tokenOf(run)}.${kind}`;

export const workerSubjectOf = (run: string, name: string): string =>
  `${SUBJECT_ROOT}.${tokenOf(run)}.worker.${tokenOf(name)}`;

/** Everything that is broadcast about a run, or about all runs. */
export const subjectsOf = (run: string | null): string => `${SUBJECT_ROOT}.${run === null ? ">" : `${tokenOf(run)}.>`}`;

/** What a subject is about; null for one that is not of this version. */
export function parseSubject(subject: string): { readonly run: string; readonly kind: SubjectKind | "worker" } | null {
  const [root, version, run, kind, name, ...more] = subject.split(".");
  if (`${root}.${version}` !== SUBJECT_ROOT || run === undefined || more.length > 0) return null;
  if (kind === "worker") return name === undefined ? null : { run, kind };
  if (name !== undefined) return null;
  return kind === "step" || kind === "epoch" || kind === "event" ? { run, kind } : null;
}
