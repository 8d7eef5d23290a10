/**
 * Coded errors. Each code has one message template that says what happened and what to do; people read the message,
 * programs read the code. Exit codes follow the command line's contract: 1 the run failed, 2 wrong usage, 3 the
 * environment lacks something.
 */
export type ExitCode = 1 | 2 | 3;

export interface ErrorDetails {
  /** What the reader can do about it, one sentence. */
  readonly hint?: string;
  readonly exitCode?: ExitCode;
  readonly cause?: unknown;
}

/** An error that a person is meant to read. `code` is stable, for example `LS_DATA_TRUNCATED`. */
export class LockstepError extends Error {
  override readonly name = "LockstepError";
  readonly code: `LS_${string}`;
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(code: `LS_${string}`, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
    this.exitCode = details.exitCode ?? 1;
  }

  /** One or two lines for a terminal: the sentence, the mend, the code. */
  toLine(): string {
    return this.hint === undefined ? `${this.message} [${this.code}]` : `${this.message} ${this.hint} [${this.code}]`;
  }
}

/** What a process tells another one of an error that ended its work: all that makes the same LockstepError again. */
export interface ErrorFacts extends Pick<LockstepError, "code" | "message" | "hint" | "exitCode"> {}

/** @param code of what is thrown without one */
export function errorFacts(error: unknown, code: LockstepError["code"]): ErrorFacts {
  const known = error instanceof LockstepError ? error : new LockstepError(code, sentenceOf(error));
  return { code: known.code, message: known.message, hint: known.hint, exitCode: known.exitCode };
}

export const errorFrom = ({ code, message, hint, exitCode }: ErrorFacts): LockstepError =>
  new LockstepError(code, message, { exitCode, ...(hint !== undefined && { hint }) });

/** The sentence of any thrown value, without a stack trace. */
export function sentenceOf(error: unknown): string {
  if (error instanceof LockstepError) return error.toLine();
  if (error instanceof Error) return error.message;
  return String(error);
}
