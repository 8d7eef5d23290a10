/**
 * LOCKSTEP_GRADIENT_FAULT=STEP:SHARD:FLOAT:BIT flips a bit of a shard's gradient before anything has been hashed, as a
 * broken adder would: the one fault that no checksum sees, and that `lockstep diff` must find.
 */
export interface GradientFault {
  readonly step: number;
  readonly shard: number;
  /** Index in the gradient vector. */
  readonly float: number;
  /** 0 to 31, from the least significant one. */
  readonly bit: number;
}

export function gradientFault(text = process.env.LOCKSTEP_GRADIENT_FAULT): GradientFault | null {
  const parts = /^(\d+):(\d+):(\d+):(\d+)$/.exec(text ?? "");
  if (parts === null) return null;
  const [step, shard, float, bit] = parts.slice(1).map(Number) as [number, number, number, number];
  return { step, shard, float, bit };
}

/** Damages a shard's gradient, given as its words, where it is this fault's. */
export function damage(fault: GradientFault | null, step: number, shard: number, vector: Uint32Array): void {
  if (fault !== null && fault.step === step && fault.shard === shard) vector[fault.float]! ^= 1 << fault.bit;
}
