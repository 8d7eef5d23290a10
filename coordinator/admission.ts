import type { CoordinatorMessage, WorkerMessage } from "../shared/protocol/messages.ts";
import type { Incarnation } from "../shared/protocol/view.ts";
import { sentenceOfDifference } from "../shared/version.ts";

type Hello = Extract<WorkerMessage, { kind: "hello" }>;
type Ready = Extract<WorkerMessage, { kind: "ready" }>;

export interface AdmissionParts {
  send(to: Incarnation, message: CoordinatorMessage): void;
  /** Dials a worker from here: null where it was reached, else why not. */
  dial(address: string, incarnation: Incarnation): Promise<string | null>;
  /** Who is in the present view; nobody before the first one. */
  members(): ReadonlySet<Incarnation>;
  /** A worker may be put into views from now on. */
  admit(from: Incarnation, ready: Ready): void;
  /** A sentence for people. */
  note(text: string): void;
  /** Milliseconds that answers may take, and between two examinations of a worker that is not reached. */
  readonly patience?: number;
  readonly pause?: number;
}

/** The one that is examined now. */
interface Examination {
  readonly worker: Hello;
  readonly ready: Ready;
  readonly failures: string[];
  /** Answers that are still to come, as "who>whom". */
  readonly open: Set<string>;
  end(): void;
}

/** Dials that are asked for at once: enough to find a link that does not work, whatever the size of the run. */
const MOST_DIALS = 16;
const PATIENCE = 5000;
const PAUSE = 5000;

/**
 * A worker that loaded well and that others cannot reach, or that cannot reach them, would cost every view that it is in. So the
 * members dial it and it dials them before the membership machine hears that it is ready; one at a time, with a bound.
 */
export class Admission {
  readonly #parts: AdmissionParts;
  readonly #hellos = new Map<Incarnation, Hello>();
  readonly #admitted = new Set<Incarnation>();
  readonly #waiting = new Map<Incarnation, Ready>();
  /** Why somebody is not let in. */
  readonly #reasons = new Map<Incarnation, string>();
  #now: Examination | null = null;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  reasonOf(incarnation: Incarnation): string | null {
    return this.#reasons.get(incarnation) ?? null;
  }

  /** The hello as the machine is to hear it: whoever was not examined yet is not ready. */
  hello(hello: Hello): Hello {
    this.#hellos.set(hello.incarnation, hello);
    // It has been in a view: it was examined, by this coordinator or by the one before it.
    if (hello.standing !== null && hello.standing.view !== null) this.#admitted.add(hello.incarnation);
    return this.#admitted.has(hello.incarnation) ? hello : { ...hello, standing: null };
  }

  ready(from: Incarnation, ready: Ready): void {
    if (this.#admitted.has(from) || ready.standing.view !== null) return this.#admit(from, ready);
    this.#waiting.set(from, ready);
    this.#next();
  }

  dialled(from: Incarnation, { incarnation, failure }: Extract<WorkerMessage, { kind: "dialled" }>): void {
    this.#answer(`${from}>${incarnation}`, this.#name(from), this.#name(incarnation), failure === "" ? null : failure);
  }

  ended(incarnation: Incarnation): void {
    this.#hellos.delete(incarnation);
    this.#admitted.delete(incarnation);
    this.#waiting.delete(incarnation);
    this.#reasons.delete(incarnation);
    const now = this.#now;
    if (now === null) return;
    for (const pair of now.open) if (pair.includes(incarnation)) now.open.delete(pair);
    if (now.open.size === 0) now.end();
  }

  #next(): void {
    const [first] = this.#waiting;
    if (this.#now !== null || first === undefined) return;
    const [incarnation, ready] = first;
    this.#waiting.delete(incarnation);
    const worker = this.#hellos.get(incarnation);
    // It may have said again that it is ready while it was examined.
    if (worker === undefined || this.#admitted.has(incarnation)) return this.#next();
    const timer = setTimeout(() => this.#now?.end(), this.#parts.patience ?? PATIENCE);
    const examination: Examination = {
      ...{ worker, ready, failures: [], open: new Set<string>() },
      end: () => {
        clearTimeout(timer);
        this.#now = null;
        this.#judge(examination);
        this.#next();
      },
    };
    this.#now = examination;
    // One that is kept out of the view may itself be the one that reaches nobody.
    const members = this.#parts.members();
    const others = [...this.#admitted]
      .filter((one) => members.size === 0 || members.has(one))
      .map((one) => this.#hellos.get(one))
      .filter((one) => one !== undefined);
    for (const other of others.slice(-MOST_DIALS)) {
      examination.open.add(`${other.incarnation}>${incarnation}`).add(`${incarnation}>${other.incarnation}`);
      this.#parts.send(other.incarnation, { kind: "dial", incarnation, address: worker.address });
      this.#parts.send(incarnation, { kind: "dial", incarnation: other.incarnation, address: other.address });
    }
    examination.open.add(`>${incarnation}`);
    void this.#parts
      .dial(worker.address, incarnation)
      .then((failure) => this.#answer(`>${incarnation}`, "the coordinator", worker.name, failure));
  }

  #answer(pair: string, from: string, to: string, failure: string | null): void {
    const now = this.#now;
    if (now === null || !now.open.delete(pair)) return;
    const address = this.#addressIn(pair);
    if (failure !== null) now.failures.push(`${from} cannot reach ${to} at ${address}: ${failure}`);
    if (now.open.size === 0) now.end();
  }

  /** Answers that did not come say nothing about the link: whoever is frozen is found out in another way. */
  #judge({ worker, ready, failures }: Examination): void {
    const { incarnation, name } = worker;
    if (!this.#hellos.has(incarnation)) return;
    const [reason] = failures;
    if (reason === undefined) return this.#admit(incarnation, ready);
    if (this.#reasons.get(incarnation) !== reason) this.#parts.note(`worker ${name} is not let in: ${reason}`);
    this.#reasons.set(incarnation, reason);
    setTimeout(() => {
      if (this.#hellos.has(incarnation) && !this.#admitted.has(incarnation)) this.ready(incarnation, ready);
    }, this.#parts.pause ?? PAUSE).unref();
  }

  #admit(from: Incarnation, ready: Ready): void {
    this.#admitted.add(from);
    if (this.#reasons.delete(from)) this.#parts.note(`worker ${this.#name(from)} is reached now`);
    this.#parts.admit(from, ready);
  }

  #addressIn(pair: string): string {
    return this.#hellos.get(pair.split(">")[1] as Incarnation)?.address ?? "";
  }

  #name(incarnation: Incarnation): string {
    return this.#hellos.get(incarnation)?.name ?? incarnation;
  }
}

/** Why a worker is of another make than this coordinator; null where it is not. */
export const otherMake = ({ version }: Hello): { readonly code: `LS_${string}`; readonly message: string } | null =>
  sentenceOfDifference(version);
