/** One instruction of a Dockerfile, with its lines joined. */
export interface Instruction {
  readonly name: string;
  readonly rest: string;
}

/** A part of a Dockerfile from one FROM to the next. */
export interface Stage {
  readonly name: string;
  readonly from: string;
  readonly instructions: readonly Instruction[];
}

/** Instructions in their order (docs.docker.com/reference/dockerfile); comments are left out, heredocs are not known. */
export function instructionsOf(text: string): Instruction[] {
  const lines = text.split("\n").filter((line) => !/^\s*(#|$)/.test(line));
  const joined = lines.join("\n").replace(/\\\n\s*/g, " ");
  return joined.split("\n").map((line) => {
    const [, name, rest] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (name === undefined || rest === undefined) throw new Error(`no instruction: ${line}`);
    return { name: name.toUpperCase(), rest };
  });
}

/** Stages in their order; what stands before the first FROM is in none. */
export function stagesOf(instructions: readonly Instruction[]): Stage[] {
  const stages: { name: string; from: string; instructions: Instruction[] }[] = [];
  for (const instruction of instructions) {
    const { name, rest } = instruction;
    if (name === "FROM") {
      const [, from = "", as = ""] = /^(\S+)(?:\s+AS\s+(\S+))?$/i.exec(rest) ?? [];
      stages.push({ name: as, from, instructions: [] });
    } else stages.at(-1)?.instructions.push(instruction);
  }
  return stages;
}
