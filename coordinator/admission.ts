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

/** One that is examined now. */
interface Examination {
  readonly worker: Hello;
  readonly ready: Ready;
  /** What was found, and between whom beside this worker. */
  readonly failures: { readonly other: Incarnation | null; readonly reason: string }[];
  /** Answers that are still to come, as "who>whom". */
  readonly open: Set<string>;
  readonly timer: NodeJS.Timeout;
}

/** Dials that are asked for at once: enough to find a link that does not work, whatever the size of the run. */
const MOST_DIALS = 16;
/** Workers that are examined at a time: one that nobody reaches takes all of its patience, and others come meanwhile. */
const MOST_AT_ONCE = 16;
const PATIENCE = 5000;
const PAUSE = 5000;

/**
 * A worker that loaded well and that others cannot reach, or that cannot reach them, would cost every view that it is in. So the
 * members dial it and it dials them before the membership machine hears that it is ready. Several are examined at a time and judged
 * in the order of their coming: each dials those before it too, and what lies between the two counts once that one is in.
 */
export class Admission {
  readonly #parts: AdmissionParts;
  readonly #hellos = new Map<Incarnation, Hello>();
  readonly #admitted = new Set<Incarnation>();
  readonly #waiting = new Map<Incarnation, Ready>();
  /** Why somebody is not let in. */
  readonly #reasons = new Map<Incarnation, string>();
  /** In the order of their coming. */
  readonly #examined = new Map<Incarnation, Examination>();

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
    this.#drop(incarnation);
    for (const { open } of this.#examined.values())
      for (const pair of open) if (pair.includes(incarnation)) open.delete(pair);
    this.#judge();
  }

  #next(): void {
    for (const [incarnation, ready] of this.#waiting) {
      if (this.#examined.size >= MOST_AT_ONCE) return;
      if (this.#examined.has(incarnation)) continue;
      this.#waiting.delete(incarnation);
      const worker = this.#hellos.get(incarnation);
      // It may have said again that it is ready while it was examined.
      if (worker !== undefined && !this.#admitted.has(incarnation)) this.#examine(worker, ready);
    }
  }

  #examine(worker: Hello, ready: Ready): void {
    const { incarnation, address } = worker;
    const others = this.#othersOf();
    const open = new Set<string>([`>${incarnation}`]);
    const late = () => {
      open.clear();
      this.#judge();
    };
    const timer = setTimeout(late, this.#parts.patience ?? PATIENCE);
    this.#examined.set(incarnation, { worker, ready, failures: [], open, timer });
    for (const other of others) {
      open.add(`${other.incarnation}>${incarnation}`).add(`${incarnation}>${other.incarnation}`);
      this.#parts.send(other.incarnation, { kind: "dial", incarnation, address });
      this.#parts.send(incarnation, { kind: "dial", incarnation: other.incarnation, address: other.address });
    }
    void this.#parts
      .dial(address, incarnation)
      .then((failure) => this.#answer(`>${incarnation}`, "the coordinator", worker.name, failure));
  }

  /** Whom the next one is to reach, and who is to reach it. */
  #othersOf(): Hello[] {
    // One that is kept out of the view may itself be the one that reaches nobody.
    const members = this.#parts.members();
    const admitted = [...this.#admitted].filter((one) => members.size === 0 || members.has(one));
    return [...admitted, ...this.#examined.keys()]
      .map((one) => this.#hellos.get(one))
      .filter((one) => one !== undefined)
      .slice(-MOST_DIALS);
  }

  #answer(pair: string, from: string, to: string, failure: string | null): void {
    const examination = [...this.#examined.values()].find(({ open }) => open.has(pair));
    if (examination === undefined) return;
    examination.open.delete(pair);
    const { incarnation } = examination.worker;
    const other = (pair.split(">").find((one) => one !== incarnation && one !== "") as Incarnation) ?? null;
    const reason = `${from} cannot reach ${to} at ${this.#addressIn(pair)}: ${failure}`;
    if (failure !== null) examination.failures.push({ other, reason });
    this.#judge();
  }

  /** Those whose answers are all there, unless one before them is still open. */
  #judge(): void {
    // Looked up anew each time: whoever is let in, or not, may end others on the way.
    for (;;) {
      const [first] = this.#examined.values();
      if (first === undefined || first.open.size > 0) return this.#next();
      this.#drop(first.worker.incarnation);
      this.#decide(first);
    }
  }

  #drop(incarnation: Incarnation): void {
    clearTimeout(this.#examined.get(incarnation)?.timer);
    this.#examined.delete(incarnation);
  }

  /** Answers that did not come say nothing about the link: whoever is frozen is found out in another way. */
  #decide({ worker, ready, failures }: Examination): void {
    const { incarnation, name } = worker;
    const found = failures.find(({ other }) => other === null || this.#admitted.has(other));
    if (found === undefined) return this.#admit(incarnation, ready);
    const { reason } = found;
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
