/**
 * LOCKSTEP_GRADIENT_FAULT=STEP:SHARD:FLOAT:BIT flips a bit of a shard's gradient before anything has been hashed, as a
 * broken adder would: the one fault that no checksum sees, and that `lockstep diff` must find. With `nan` in place of the
 * bit the value becomes NaN, and with STEP+ all later steps are damaged as well.
 */
export interface GradientFault {
  readonly step: number;
  readonly andLater: boolean;
  readonly shard: number;
  /** Index in the gradient vector. */
  readonly float: number;
  /** 0 to 31, from the least significant one. */
  readonly bit: number | "nan";
}

const NAN = 0x7fc00000;

export function gradientFault(text = process.env.LOCKSTEP_GRADIENT_FAULT): GradientFault | null {
  const parts = /^(\d+)(\+?):(\d+):(\d+):(\d+|nan)$/.exec(text ?? "");
  if (parts === null) return null;
  const [, step, later, shard, float, bit] = parts as unknown as [string, string, string, string, string, string];
  return {
    step: Number(step),
    andLater: later === "+",
    shard: Number(shard),
    float: Number(float),
    bit: bit === "nan" ? "nan" : Number(bit),
  };
}

/** Damages a shard's gradient, given as its words, where it is this fault's. */
export function damage(fault: GradientFault | null, step: number, shard: number, vector: Uint32Array): void {
  if (fault === null || fault.shard !== shard) return;
  if (fault.step !== step && !(fault.andLater && step > fault.step)) return;
  if (fault.bit === "nan") vector[fault.float] = NAN;
  else vector[fault.float]! ^= 1 << fault.bit;
}
