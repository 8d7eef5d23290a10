/** When some condition held, in milliseconds since 1970. */
export interface Turn {
  readonly on: boolean;
  readonly from: number;
  readonly to: number;
}

/** Mean milliseconds of a step in neighbouring turns. */
export interface Pair {
  readonly on: number;
  readonly off: number;
}

/** When each step became final, in milliseconds since 1970. */
export const timesOf = (lines: readonly { readonly time: string }[]): number[] =>
  lines.map(({ time }) => Date.parse(time));

/** Mean duration of the steps that lie wholly within a turn. */
function meanWithin(times: readonly number[], { from, to }: Turn): number {
  const inside = times.filter((time) => time >= from && time <= to);
  return (inside.at(-1)! - inside[0]!) / (inside.length - 1);
}

/** Turns by two, one of each kind; what is left over is left out. */
export function windowsOf(times: readonly number[], turns: readonly Turn[]): Pair[] {
  const pairs: Pair[] = [];
  for (let i = 0; i + 1 < turns.length; i += 2) {
    const both = [turns[i]!, turns[i + 1]!];
    const mean = (on: boolean) => meanWithin(times, both.find((turn) => turn.on === on)!);
    pairs.push({ on: mean(true), off: mean(false) });
  }
  return pairs;
}
