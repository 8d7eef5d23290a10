import { REFUSAL_CODES } from "./table.ts";

export type RefusalCode = (typeof REFUSAL_CODES)[number];

/** The label of a refusal: a code of the table, or "other"; whoever is refused must not make series. */
export const refusalCode = (code: string): RefusalCode => REFUSAL_CODES.find((known) => known === code) ?? "other";
