import type { Settings } from "../settings.ts";

/** A recipe that --recipe names: plain data, and what is known of it. */
export interface NamedRecipe {
  /** One clause: what it is for. */
  readonly purpose: string;
  /** With the model that it takes where --model names none. */
  readonly settings: Settings;
  /** What differs with another model, by --model. */
  readonly models?: Readonly<Record<string, Partial<Settings>>>;
  /** By model: what to expect on STL-10. Figures that were measured stand in the README with their commands. */
  readonly expected: Readonly<Record<string, Expectation>>;
}

export interface Expectation {
  /** Top-1 on the test images, as fractions of 100. */
  readonly accuracy: string;
  /** Training time on two quiet cores that multiply bfloat16. */
  readonly cost: string;
}
