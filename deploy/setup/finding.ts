/** One prerequisite: its state, and how to mend what lacks. */
export interface Finding {
  readonly what: string;
  readonly state: "fine" | "missing" | "optional";
  readonly detail: string;
  readonly mend: string | null;
}

/** @param optional its lack does not make a machine unfit */
export const finding = (
  what: string,
  fine: boolean,
  detail: string,
  mend: string | null,
  optional = false,
): Finding => ({
  what,
  state: fine ? "fine" : optional ? "optional" : "missing",
  detail,
  mend: fine ? null : mend,
});
